"""Rows of a text file by their position, without reading the file before them: one JSON value a line, or a table.

A sparse index (every `STEP`-th row with its line and byte) grows as rows are read, so the second look at row 900,000 is a
jump. Places and values are those of `data.sources`, whose parts this reads with.

Why not `data.sources.rows`: it reads a file from its start, and the whole of it for its encoding. Here the first
megabyte is taken to show the encoding; what it shows wrongly, the inspection of the whole file finds.
"""

from __future__ import annotations

import codecs
import csv
import os
import threading
from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

from instil.conversation import Place
from instil.data.sources.csv_rows import (
    SEP_LINE,
    SNIFFED_LINES,
    checked_header,
    delimiter_of,
    not_utf8,
    row_of_fields,
)
from instil.data.sources.files import container_of
from instil.data.sources.json_rows import has_one_value_per_line
from instil.errors import DataError

STEP = 1024
"""Rows between two entries of the index."""
HEAD_BYTES = 1 << 20
"""Beginning of a file that shows its encoding and its layout."""
_SEPARATORS = {"csv": ",", "tsv": "\t"}
Mark = tuple[int, int, int]
"""Position of a row, the line on which it starts, and its byte."""


class LineFile:
    """A file of rows that can be read from any of them on.

    Args:
        path: The file.
        source: Its name in places.
        kind: One JSON value a line, or a table.
        separator: Between the fields of a table.
    """

    def __init__(self, path: Path, *, source: str, kind: Literal["json", "table"], separator: str = ",") -> None:
        self.path, self.source, self._kind, self._separator = path, source, kind, separator
        self._lock = threading.Lock()
        self._header: list[str] = []
        self._marks: list[Mark] = [(0, 1, 0)]
        if kind == "table":
            self._read_header()
        else:
            with path.open("rb") as file:
                self._marks = [(0, 1, _start(file))]

    @classmethod
    def of(cls, path: Path, *, source: str, delimiter: str | None = None) -> LineFile | None:
        """Return the file, or None where its rows have no byte to start at.

        Those are Parquet, Arrow, workbooks, plain text, compressed files, JSON arrays, and text that is not UTF-8.

        Args:
            path: The file.
            source: Its name in places.
            delimiter: Character between the fields of a table; found by default.

        Raises:
            DataError: If the header of a table is wrong.
        """
        container = container_of(path)
        if container not in ("json", "csv", "tsv") or path.suffix.lower() in (".gz", ".zst", ".bz2", ".xz"):
            return None
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            is_all = len(head) < HEAD_BYTES
        if not head or not _is_utf8(head, is_all=is_all) or (b"\r" in head and b"\n" not in head):
            return None
        head = head.removeprefix(codecs.BOM_UTF8)
        if container == "json":
            return cls(path, source=source, kind="json") if has_one_value_per_line(head, is_all=is_all) else None
        lines = head.decode("utf-8", "ignore").splitlines(keepends=True)[:SNIFFED_LINES]
        found = delimiter_of(lines, default=_SEPARATORS[container], chosen=delimiter)
        return cls(path, source=source, kind="table", separator=found.character)

    def rows(self, start: int = 0) -> Iterator[tuple[int, Place, Any]]:
        """Yield the rows from a position on: position, place, and the row as `data.sources` yields it, not parsed.

        Raises:
            DataError: If a table breaks off: a quote that does not end, or a byte that is not UTF-8.
        """
        yield from self._from(self._marks[bisect_right(self._marks, start, key=lambda mark: mark[0]) - 1], start)

    def at_lines(self, lines: set[int]) -> Iterator[tuple[int, Place, Any]]:
        """Yield the rows that start on these lines."""
        left = sorted(lines)
        while left:
            at = bisect_right(self._marks, left[0], key=lambda mark: mark[1]) - 1
            for position, place, row in self._from(self._marks[max(at, 0)], 0):
                if place.row >= left[0]:
                    if place.row in lines:
                        yield position, place, row
                    left = [line for line in left if line > place.row]
                    # The next one may be far away, where the index knows a nearer start.
                    if not left or left[0] > place.row + 4 * STEP:
                        break
            else:
                return

    def _from(self, mark: Mark, start: int) -> Iterator[tuple[int, Place, Any]]:
        with self.path.open("rb", buffering=1 << 20) as file:
            file.seek(mark[2])
            rows = self._json_rows(file, mark) if self._kind == "json" else self._table_rows(file, mark)
            for (position, line, byte), row in rows:
                if position % STEP == 0 and position > self._marks[-1][0]:
                    self._remember((position, line, byte))
                if position >= start:
                    yield position, Place(self.source, line), row

    def _remember(self, mark: Mark) -> None:
        with self._lock:
            if mark[0] > self._marks[-1][0]:
                self._marks.append(mark)

    @staticmethod
    def _json_rows(file: IO[bytes], mark: Mark) -> Iterator[tuple[Mark, bytes]]:
        position, number, byte = mark
        for number, line in enumerate(file, start=number):  # noqa: B020
            if not line.isspace():
                yield (position, number, byte), line
                position += 1
            byte += len(line)

    def _table_rows(self, file: IO[bytes], mark: Mark) -> Iterator[tuple[Mark, Any]]:
        position, line, byte = mark
        lines = _Lines(file, self.source, line)
        reader = csv.reader(lines, delimiter=self._separator, strict=True)
        try:
            for fields in reader:
                if any(field.strip() for field in fields):
                    yield (position, line, byte), row_of_fields(self._header, fields, Place(self.source, line))
                    position += 1
                line, byte = mark[1] + lines.count, mark[2] + lines.size
        except csv.Error as error:
            raise DataError(
                f"{self.source}:{line}: not valid CSV ({error}). Fix the quotes there, or set data.delimiter "
                f"if it is not {self._separator!r}."
            ) from None

    def _read_header(self) -> None:
        csv.field_size_limit(2**31 - 1)
        with self.path.open("rb") as file:
            start = _start(file)
            first = file.readline()
            skipped = 1 if SEP_LINE.fullmatch(first.decode("utf-8", "replace")) else 0
            start += len(first) if skipped else 0
            file.seek(start)
            lines = _Lines(file, self.source, 1 + skipped)
            try:
                reader = csv.reader(lines, delimiter=self._separator, strict=True)
                fields = next((fields for fields in reader if any(field.strip() for field in fields)), None)
            except csv.Error as error:
                raise DataError(f"{self.source}:1: not valid CSV ({error}). Fix the quotes of the header.") from None
            if fields is None:
                raise DataError(f"{self.source}: holds no row. Expected at least one. Check the file.")
            place = Place(self.source, skipped + lines.count)
            self._header = checked_header(fields, place, self._separator)
            self._marks = [(0, 1 + skipped + lines.count, start + lines.size)]


def _start(file: IO[bytes]) -> int:
    """Return the byte behind the mark of UTF-8, and go there."""
    return file.seek(3 if file.read(3) == codecs.BOM_UTF8 else 0)


class _Lines:
    """The lines of a file as text, counted in lines and bytes as they are taken."""

    def __init__(self, file: IO[bytes], source: str, first: int) -> None:
        self._file, self._source, self._first = file, source, first
        self.count, self.size = 0, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._file)
        self.count += 1
        self.size += len(line)
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            place = f"{self._source}:{self._first + self.count - 1}"
            raise DataError(f"{place}: byte 0x{line[error.start]:02x} {not_utf8(line)}") from None


def _is_utf8(head: bytes, *, is_all: bool) -> bool:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in head:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=is_all)
    except UnicodeDecodeError:
        return False
    return True


_known: dict[tuple[str, str | None], tuple[tuple[int, int, int], LineFile | None]] = {}
_MOST_KNOWN = 16


def line_file(path: Path, *, source: str, delimiter: str | None = None) -> LineFile | None:
    """Return `LineFile.of`, with the index of the last look where the file has not changed."""
    stat = path.stat()
    state = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
    key = (os.fspath(path), delimiter)
    if key in _known and _known[key][0] == state:
        return _known[key][1]
    found = LineFile.of(path, source=source, delimiter=delimiter)
    while len(_known) >= _MOST_KNOWN:
        _known.pop(next(iter(_known)), None)
    _known[key] = (state, found)
    return found


def first_rows(file: LineFile, start: int, count: int) -> list[tuple[int, Place, Any]]:
    """Return some rows from a position on."""
    return list(islice(file.rows(start), count))
