"""What the scripts that write pages from the code share: docstrings and tables as Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from docstring_parser import Docstring, parse

REFERENCE = Path(__file__).resolve().parents[1] / "reference"


def docstring_of(value: Any) -> Docstring:
    """Return the parts of a docstring in Google's style."""
    return parse(inspect.getdoc(value) or "")


def one_line(text: str | None) -> str:
    """Return a text as one line; no text is an empty line."""
    return " ".join((text or "").split())


def as_markdown(text: str | None) -> str:
    """Return prose of a docstring as Markdown: names in backticks once, no line that begins a list by chance.

    Example:
        >>> as_markdown("Write ``evaluation.json``, see `Run`.")
        'Write `evaluation.json`, see `Run`.'
    """
    return re.sub(r"``([^`]+)``", r"`\1`", text or "").strip()


def cell(text: str | None) -> str:
    r"""Return a text for a cell of a table.

    Example:
        >>> print(cell("one | two"))
        one \| two
    """
    return one_line(as_markdown(text)).replace("|", "\\|")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table.

    Example:
        >>> print(table(["a", "b"], [["1", "2"]]))
        | a | b |
        |---|---|
        | 1 | 2 |
    """
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads), *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def write(name: str, page: str) -> None:
    """Write a page of the reference."""
    (REFERENCE / name).write_text(page, encoding="utf-8")
