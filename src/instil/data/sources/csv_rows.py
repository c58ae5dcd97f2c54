"""Stream the rows of CSV and TSV, as programs and spreadsheets write them.

Spreadsheets of many countries separate by semicolons, write a first line ``sep=;``, and leave empty columns and rows at
the end. All of this is read, and `delimiter_of` says which delimiter it is.

Why: a delimiter is chosen only if it cuts the header and the first rows into the same number of fields. Otherwise the
suffix decides, and the error names `data.delimiter`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

from instil.conversation import Place
from instil.data.sources.encodings import shown_readings
from instil.errors import DataError

_BROKEN_BYTE = re.compile("[\udc80-\udcff]")
NUL = "holds a NUL. Expected text. Is the file binary or damaged? Write it again as UTF-8."
SEP_LINE = re.compile(r"\s*\"?sep=(.)\"?[\s,;]*", re.IGNORECASE)
_DELIMITERS = ",;\t|"
SNIFFED_LINES = 200
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}


@dataclass(frozen=True, slots=True)
class Delimiter:
    """The character between the fields of a table.

    Attributes:
        character: The character.
        how: How it is known, for people; empty where the suffix says it.
    """

    character: str
    how: str = ""

    def __str__(self) -> str:
        name = _NAMES.get(self.character, repr(self.character))
        return f"{name}, {self.how}" if self.how else name


def delimiter_of(lines: Sequence[str], *, default: str, chosen: str | None = None) -> Delimiter:
    r"""Return the delimiter of a table.

    Args:
        lines: Its first lines.
        default: The delimiter that its suffix means.
        chosen: The delimiter that `data.delimiter` sets.

    Example:
        >>> delimiter_of(["question;answer\n", "2+2;4\n"], default=",").character
        ';'
    """
    if chosen is not None:
        return Delimiter(chosen, "set by data.delimiter")
    named = SEP_LINE.fullmatch(lines[0].removeprefix("\ufeff")) if lines else None
    if named:
        return Delimiter(named.group(1), "by its sep= line")
    widths = {mark: _width(lines, mark) for mark in dict.fromkeys(default + _DELIMITERS)}
    best = max(widths, key=lambda mark: (widths[mark], mark == default))
    if best == default or not widths[best] or _header_width(lines, default) > 1 < widths[default]:
        return Delimiter(default)
    return Delimiter(best, "by its header")


def _width(lines: Sequence[str], mark: str) -> int:
    """Return the number of columns if a delimiter cuts header and rows into as many of at least two, else 0."""
    rows = [row for row in _parsed(lines, mark) if any(field.strip() for field in row)]
    if len(lines) >= SNIFFED_LINES:
        rows = rows[:-1]  # the last one may be cut
    if not rows or len(rows[0]) < 2:
        return 0
    return len(rows[0]) if sum(len(row) == len(rows[0]) for row in rows) * 10 >= len(rows) * 9 else 0


def _header_width(lines: Sequence[str], mark: str) -> int:
    return len(next(iter(_parsed(lines, mark)), []))


def _parsed(lines: Sequence[str], mark: str) -> list[list[str]]:
    rows = []
    try:
        for row in csv.reader(lines, delimiter=mark):
            rows.append(row)
    except csv.Error:
        pass
    return rows


def read_csv(
    stream: IO[bytes], source: str, *, separator: str, chosen: str | None = None
) -> Iterator[tuple[Place, Any]]:
    """Yield each row of a CSV or TSV file in UTF-8 as a mapping. A row's number is the line on which it starts.

    A row with too many or too few fields is yielded as a `DataError`, so that the caller can skip it. Rows without any
    text are left out, and so are columns that have neither a name nor text.

    Args:
        stream: The file.
        source: Its name, for places.
        separator: The delimiter that its suffix means.
        chosen: The delimiter that `data.delimiter` sets.

    Raises:
        DataError: If the header has a duplicate name, quotes are broken, or a byte is not UTF-8.
    """
    csv.field_size_limit(2**31 - 1)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from _read(_checked_lines(text, source), source, separator, chosen)
    finally:
        text.detach()


def _read(lines: Iterator[str], source: str, separator: str, chosen: str | None) -> Iterator[tuple[Place, Any]]:
    first = list(islice(lines, SNIFFED_LINES))
    delimiter = delimiter_of(first, default=separator, chosen=chosen)
    skipped = 1 if first and SEP_LINE.fullmatch(first[0]) else 0
    reader = csv.reader(_joined(first[skipped:], lines), delimiter=delimiter.character, strict=True)
    line = skipped
    header: list[str] | None = None
    try:
        for fields in reader:
            place, line = Place(source, line + 1), reader.line_num + skipped
            if not any(field.strip() for field in fields):
                continue
            if header is None:
                header = checked_header(fields, place, delimiter.character)
                continue
            yield place, row_of_fields(header, fields, place)
    except csv.Error as error:
        raise DataError(
            f"{source}:{line + 1}: not valid CSV ({error}). Fix the quotes there, or set data.delimiter "
            f"if it is not {delimiter.character!r}."
        ) from None


def _joined(first: Sequence[str], rest: Iterable[str]) -> Iterator[str]:
    yield from first
    yield from rest


def row_of_fields(header: Sequence[str], fields: Sequence[str], place: Place) -> Any:
    """Return a row as a mapping, or the `DataError` that says why its fields fit no header."""
    names = [*header, *[""] * (len(fields) - len(header))]
    stray = next((at for at, field in enumerate(fields) if not names[at] and field.strip()), None)
    if stray is not None and len(fields) <= len(header):
        return DataError(f"{place}: has text in column {stray + 1}, which has no name. Expected none. Name the column.")
    if stray is not None or len(fields) < _last_named(header):
        found = f"has {len(fields)} fields. Expected {len(header)}, as in the header"
        return DataError(f"{place}: {found}. Fix the quotes or separators of the row.")
    return {name: field for name, field in zip(names, fields, strict=False) if name}


def _last_named(header: Sequence[str]) -> int:
    return max((at for at, name in enumerate(header, start=1) if name), default=0)


def _checked_lines(text: Iterable[str], source: str) -> Iterator[str]:
    """Yield the lines of a text that was decoded with ``surrogateescape``.

    Raises:
        DataError: On the first line with a byte that is not UTF-8, or with a NUL.
    """
    for number, line in enumerate(text, start=1):
        if "\0" in line:
            raise DataError(f"{source}:{number}: {NUL}")
        broken = None if line.isascii() else _BROKEN_BYTE.search(line)
        if broken is not None:
            raise DataError(
                f"{source}:{number}: byte 0x{ord(broken.group()) - 0xDC00:02x} "
                f"{not_utf8(line.encode('utf-8', 'surrogateescape'))}"
            )
        yield line


def not_utf8(line: bytes) -> str:
    """Return what is wrong with a byte of a line that is not UTF-8, and what the line would be in other encodings."""
    return f"is not UTF-8. {shown_readings(line)} Expected UTF-8. Fix the row, or set data.encoding for the whole file."


def checked_header(fields: Sequence[str], place: Place, separator: str) -> list[str]:
    """Return the names of a header.

    Raises:
        DataError: If it was cut at another character than its own, or a name occurs twice.
    """
    other = next((mark for mark in _DELIMITERS if mark != separator and fields[0].count(mark)), "")
    if len(fields) == 1 and other:
        raise DataError(
            f"{place}: the header is one column, {fields[0][:80]!r}, with {other!r} in it. Expected columns "
            f"separated by {separator!r}. Set data.delimiter, for example to {other!r}."
        )
    return named_columns(fields, place)


def named_columns(fields: Sequence[str], place: Place) -> list[str]:
    """Return the names of a header; an empty name is that of a column without text.

    Raises:
        DataError: If a name occurs twice.
    """
    header = [field.strip() for field in fields]
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise DataError(f"{place}: the header has {twice[0]!r} twice. Expected unique column names. Rename one.")
    return header
