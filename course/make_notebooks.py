"""Make the notebooks of the course: one ``.ipynb`` for each lesson and language, in ``build/course/LANGUAGE/``.

    python course/make_notebooks.py

A lesson is one English MyST Markdown file. Its code stands once. The text of the other languages comes from the
catalogues that the docs site uses, ``docs/locale/``, by the same message ids that Sphinx extracts. A paragraph without
a translation stays English and is counted.

The setup cell of a notebook can install instil in Colab, if the address of the repository is known. It is taken from
``COURSE_REPOSITORY`` or from the git remote named origin.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import jupytext
import polib
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser
from nbformat import NotebookNode

COURSE = Path(__file__).resolve().parent
ROOT = COURSE.parent
LOCALES = {"en": None, "zh": "zh_CN", "vi": "vi"}
"""Language of a notebook to the folder of its catalogues in ``docs/locale``; English is the source."""
MARKDOWN_EXTENSIONS = {"dollarmath"}
"""MyST extensions of the docs site, which decide what a paragraph is."""
LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)\s#]+)")


def lessons() -> list[Path]:
    """Return the files of the lessons, in order."""
    return sorted(COURSE.glob("[0-9]-*.md"))


def read_lesson(path: Path) -> NotebookNode:
    """Read a lesson as a notebook."""
    return jupytext.reads(path.read_text(encoding="utf-8"), fmt="md:myst")


def messages_of(markdown: str) -> list[str]:
    r"""Return the message ids of a Markdown text: a heading, paragraph or table cell each, on one line.

    Example:
        >>> messages_of("# A title\n\n- one\n  line\n- two")
        ['A title', 'one line', 'two']
    """
    return [_message_id(token) for token in _inline_tokens(markdown)]


def translated(markdown: str, translations: Mapping[str, str]) -> str:
    r"""Return a Markdown text with each paragraph that has a translation in its place.

    Example:
        >>> translated("- one\n  line\n\n> two", {"one line": "một dòng", "two": "hai"})
        '- một dòng\n\n> hai'
    """
    lines = markdown.split("\n")
    cell_starts: dict[int, int] = {}
    emptied: set[int] = set()
    for token in _inline_tokens(markdown):
        start, end = token.map
        pieces = token.content.split("\n")
        position = lines[start].find(pieces[0], cell_starts.get(start, 0))
        if position < 0:
            raise ValueError(f"{lines[start]!r}: {pieces[0]!r} is not found in it. Write it without escapes.")
        text = translations.get(_message_id(token)) or (pieces[0] if len(pieces) == 1 else None)
        if text is None:
            continue
        rest = lines[start][position + len(pieces[0]) :] if len(pieces) == 1 else ""
        lines[start] = lines[start][:position] + text + rest
        cell_starts[start] = position + len(text)  # the next cell of a table's row stands behind this one
        emptied.update(range(start + 1, end if len(pieces) > 1 else start + 1))
    return "\n".join(line for number, line in enumerate(lines) if number not in emptied)


def translations_of(lesson: Path, language: str) -> dict[str, str]:
    """Return a lesson's finished translations by message id; fuzzy ones do not count."""
    locale = LOCALES[language]
    path = ROOT / "docs" / "locale" / str(locale) / "LC_MESSAGES" / "course" / f"{lesson.stem}.po"
    if locale is None or not path.exists():
        return {}
    return {entry.msgid: entry.msgstr for entry in polib.pofile(str(path)).translated_entries()}


def untranslated(lesson: Path, language: str) -> list[str]:
    """Return the message ids of a lesson that a language lacks."""
    if LOCALES[language] is None:
        return []
    translations = translations_of(lesson, language)
    texts = [cell.source for cell in read_lesson(lesson).cells if cell.cell_type == "markdown"]
    return [message for text in texts for message in messages_of(text) if message not in translations]


def notebook_of(lesson: Path, language: str, repository: str = "") -> NotebookNode:
    """Return a lesson as a notebook in a language.

    Args:
        lesson: File of the lesson.
        language: A key of `LOCALES`.
        repository: Address of the git repository for the setup cell and for links; empty if none is known.
    """
    notebook = read_lesson(lesson)
    translations = translations_of(lesson, language)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # an id by position, so that the same lesson gives the same bytes
        if cell.cell_type == "markdown":
            cell.source = _with_links(translated(cell.source, translations), repository)
        elif cell.metadata.get("name") == "setup":
            cell.source = cell.source.replace('REPOSITORY = ""', f'REPOSITORY = "{repository}"')
        if "solution" in cell.metadata.get("tags", []):
            cell.metadata["jupyter"] = {"source_hidden": True}
            cell.metadata["cellView"] = "form"  # Colab's way to fold a cell
    return notebook


def repository_address(environment: Mapping[str, str] = os.environ) -> str:
    """Return the address that a learner can clone: `COURSE_REPOSITORY`, else the remote named origin, else nothing."""
    address = environment.get("COURSE_REPOSITORY")
    if address is None:
        command = ["git", "-C", str(ROOT), "remote", "get-url", "origin"]
        address = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        address = re.sub(r"^git@([^:]+):", r"https://\1/", address)
    return address.removesuffix(".git") if address.startswith("https://") else ""


def make_notebooks(folder: Path, repository: str) -> list[str]:
    """Write every lesson in every language, and return a line for each language."""
    report = []
    for language in LOCALES:
        place = folder / language
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(COURSE / "course_rows.py", place)
        for lesson in lessons():
            text = jupytext.writes(notebook_of(lesson, language, repository), fmt="ipynb")
            (place / f"{lesson.stem}.ipynb").write_text(text, encoding="utf-8")
        lacking = {lesson.name: len(untranslated(lesson, language)) for lesson in lessons()}
        listed = ", ".join(f"{count} in {name}" for name, count in lacking.items() if count)
        report.append(
            f"{place}: {len(lacking)} notebooks" + (f"; paragraphs still in English: {listed}" if listed else "")
        )
    return report


def _inline_tokens(markdown: str) -> Iterator[Token]:
    """Yield the tokens with text that Sphinx translates, each with its lines."""
    parser = create_md_parser(MdParserConfig(enable_extensions=MARKDOWN_EXTENSIONS), RendererHTML)
    row = None
    for token in parser.parse(markdown):
        if token.type == "tr_open":
            row = token.map
        if token.type == "inline" and token.content:
            token.map = token.map or row
            yield token


def _message_id(token: Token) -> str:
    return token.content.replace("\n", " ").strip()


def _with_links(markdown: str, repository: str) -> str:
    """Let links of a lesson lead from its notebook to other notebooks, and to files of the repository."""

    def target(match: re.Match[str]) -> str:
        name = match[1]
        if re.fullmatch(r"[0-9]-[\w-]+\.md", name):
            return name.removesuffix(".md") + ".ipynb"
        path = os.path.relpath(COURSE / name, ROOT)
        return f"{repository}/blob/main/{path}" if repository else f"../../../{path}"

    return LINK.sub(target, markdown)


def main() -> None:
    """Make the notebooks and print what was made."""
    repository = repository_address()
    print(*make_notebooks(ROOT / "build" / "course", repository), sep="\n")
    if not repository:
        print(
            "setup cell: no address of the repository is known, so it cannot install instil in Colab. "
            "Run again with COURSE_REPOSITORY=https://… or add a git remote named origin."
        )


if __name__ == "__main__":
    sys.exit(main())
