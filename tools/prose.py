"""Measure how code and docs read: words a sentence, comments where branches are many, old openings of docstrings.

    python tools/prose.py [ROOT]

ROOT is the root of a checkout, by default this one. The figures are aims, not gates.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MANY_BRANCHES = 10
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`*\[(0-9])")
_SECTION = re.compile(r"\s*(Args|Returns|Raises|Yields|Attributes|Examples?|Source):\s*$")
_ENTRY = re.compile(r"\s*[\w*, ]+: ")
_DIRECTIVE = re.compile(r"#\s*(type:|noqa|pyright:|pragma|fmt:)")
_OLD_OPENING = re.compile(r"(Give|Say|Tell)s?\b")
_BRANCHES = (ast.If, ast.For, ast.While, ast.IfExp, ast.ExceptHandler, ast.BoolOp, ast.comprehension, ast.match_case)


def sentence_lengths(text: str) -> list[int]:
    """Return the number of words of each sentence of a paragraph.

    Example:
        >>> sentence_lengths("Read a row. It has a place, e.g. a line.")
        [3, 7]
    """
    return [len(sentence.split()) for sentence in _SENTENCE_END.split(text.strip()) if sentence.split()]


def percentile(values: Sequence[int], share: float) -> int:
    """Return the value below which a share of the values lies; 0 if there are none.

    Example:
        >>> percentile(range(10), 0.9)
        9
    """
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0


def docstring_paragraphs(docstring: str) -> Iterator[str]:
    """Yield the prose of a docstring: its paragraphs, and the entries of its sections, without code examples."""
    paragraph: list[str] = []
    for line in [*docstring.splitlines(), ""]:
        stripped = line.strip()
        is_code = stripped.startswith((">>>", "..."))
        is_entry = _ENTRY.match(line) is not None and line.startswith(" ")
        if paragraph and (not stripped or is_code or is_entry or _SECTION.match(line)):
            yield " ".join(paragraph)
            paragraph = []
        if stripped and not is_code and not _SECTION.match(line):
            paragraph.append(_ENTRY.sub("", line, count=1).strip() if is_entry else stripped)


def page_paragraphs(markdown: str) -> Iterator[str]:
    """Yield the prose of a page: its paragraphs and list items, without code blocks, tables and headings."""
    markdown = re.sub(r"```.*?```", "", markdown, flags=re.DOTALL)
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", markdown):
        lines = [line.strip() for line in block.splitlines() if not line.lstrip().startswith(("|", "#", "!", "<", ">"))]
        text = re.sub(r"^(?:[-*]|\d+\.) ", "", " ".join(lines))
        if len(text.split()) > 2:
            yield text


def num_branches(function: ast.AST) -> int:
    """Return how many branches a function has: conditions, loops, handlers, boolean operators."""
    return sum(isinstance(node, _BRANCHES) for node in ast.walk(function))


def comment_lines(source: str) -> set[int]:
    """Return the numbers of the lines that have a comment; directives for tools do not count."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0] for token in tokens if token.type == tokenize.COMMENT and not _DIRECTIVE.match(token.string)}


@dataclass
class Figures:
    """The counts over all modules."""

    words: list[int] = field(default_factory=list)
    num_lines: int = 0
    num_comments: int = 0
    num_long_lines: int = 0
    num_old_openings: int = 0
    uncommented: list[str] = field(default_factory=list)

    def add(self, source: str, name: str) -> None:
        """Count a module."""
        comments = comment_lines(source)
        self.num_lines += source.count("\n")
        self.num_comments += len(comments)
        self.num_long_lines += sum(len(line) > 120 for line in source.splitlines())
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            docstring = ast.get_docstring(node) or ""
            self.num_old_openings += _OLD_OPENING.match(docstring) is not None
            for paragraph in docstring_paragraphs(docstring):
                self.words += sentence_lengths(paragraph)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and num_branches(node) >= MANY_BRANCHES:
                lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
                if comments.isdisjoint(lines):
                    self.uncommented.append(f"{name}:{node.lineno} {node.name}")


def main() -> None:
    """Print the figures."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    figures = Figures()
    for path in sorted((root / "src" / "instil").rglob("*.py")):
        figures.add(path.read_text(encoding="utf-8"), str(path.relative_to(root)))
    pages = [path.read_text(encoding="utf-8") for path in sorted((root / "docs").rglob("*.md"))]
    page_words = [count for page in pages for text in page_paragraphs(page) for count in sentence_lengths(text)]
    for label, words in (("docstrings", figures.words), ("docs pages", page_words)):
        half, ninth_tenth = percentile(words, 0.5), percentile(words, 0.9)
        print(f"{label}: {len(words)} sentences; words in half {half}, in nine of ten {ninth_tenth}")
    print(f"docstrings that begin with Give, Say or Tell: {figures.num_old_openings}")
    share = 100 * figures.num_comments / max(figures.num_lines, 1)
    print(f"comments: {share:.1f} per 100 lines; lines over 120 characters: {figures.num_long_lines}")
    print(f"functions of {MANY_BRANCHES} or more branches without a comment: {len(figures.uncommented)}")
    for name in figures.uncommented:
        print(f"  {name}")


if __name__ == "__main__":
    main()
