"""Rows as they are in the file, for the moment before the helper process shows them as tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instil.studio.data.subject import Subject
from instil.studio.workers.line_file import first_rows, line_file

ROWS_A_PAGE = 50
_MOST_CHARACTERS = 4_000


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row that is not read yet.

    Attributes:
        at: Its position, from 0.
        place: Its place.
        text: Its text, shortened.
    """

    at: int
    place: str
    text: str


def raw_rows(root: Path, subject: Subject, *, start: int = 0, count: int = ROWS_A_PAGE) -> list[RawRow] | None:
    """Return some rows from a position on, or None where only a helper process can read them.

    Raises:
        DataError: If the file cannot be read there.
    """
    path = root / subject.data
    if subject.is_hub or not path.is_file():
        return None
    file = line_file(path, source=subject.data)
    if file is None:
        return None
    return [RawRow(at, str(place), raw_text(row)) for at, place, row in first_rows(file, start, count)]


def raw_text(row: Any) -> str:
    r"""Return a row as people read it.

    Example:
        >>> raw_text(b'{"text": "a"}\n'), raw_text({"question": "2+2?", "answer": "4"})
        ('{"text": "a"}', 'question: 2+2?\nanswer: 4')
    """
    if isinstance(row, bytes):
        text = row.decode("utf-8", "replace").strip()
    elif isinstance(row, Mapping):
        text = "\n".join(f"{name}: {value}" for name, value in row.items())
    else:
        text = str(row)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} …"
