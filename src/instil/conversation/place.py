"""Where a conversation came from: Place."""

from __future__ import annotations

from dataclasses import dataclass

from instil.conversation.field_checks import check_number, check_text

ROWS = "rows"
"""The source of a place in rows that a Python program passed. No file can have this name, because it has no suffix."""


@dataclass(frozen=True, slots=True)
class Place:
    """The source and row that a conversation came from.

    Attributes:
        source: File path, ``<stdin>`` or data-set id, as the user named it.
        row: Line number in a line-based file, else the row's number; both count from 1. Rows from memory and of a JSON
            array are written with their index, which counts from 0 as in Python.
        part: Index (from 0) if one row contains several conversations, else None.
        line: Line on which the row begins, if it is an element of a JSON array or an indented object; else None. The
            first line is not written: an array on one line has no other.

    Example:
        >>> str(Place("train.jsonl", 412))
        'train.jsonl:412'
        >>> str(Place(ROWS, 13))
        'rows[12]'
        >>> str(Place("train.json", 7, line=42))
        'train.json[6] (line 42)'
    """

    source: str
    row: int
    part: int | None = None
    line: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if type(self.source) is str and type(self.row) is int and self.part is None and self.line is None:
            return
        check_text("Place.source", self.source, optional=False)
        check_number("Place.row", self.row)
        check_number("Place.part", self.part, optional=True)
        check_number("Place.line", self.line, optional=True)

    def __str__(self) -> str:
        is_indexed = self.source == ROWS or self.line is not None
        row = f"[{self.row - 1}]" if is_indexed else f":{self.row}"
        part = "" if self.part is None else f"[{self.part}]"
        return f"{self.source}{row}{part}" + (f" (line {self.line})" if (self.line or 1) > 1 else "")
