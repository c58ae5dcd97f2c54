"""Cut the lines of files into pieces: where the rows of a chunk are, instead of the rows.

A piece names the bytes of each file, so the process that encodes it reads them itself. The borders are those of
`chunks.cut_source`, so the store has the same bytes.

Why: pieces are made from the blocks that are read to hash a file. The rows then never pass through one process, which
would be as fast as it can read, whatever the number of machines.
"""

from __future__ import annotations

import io
import platform
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instil.conversation import Place
from instil.data.sources.files import container_of, is_compressed, open_bytes
from instil.data.sources.json_rows import first_line_of
from instil.data.sources.rows import why_not_lines
from instil.errors import DataError
from instil.preparation.chunks import CHUNK_BYTES, CHUNK_ROWS, Chunk, Input
from instil.screen import work

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive lines of one file.

    Attributes:
        path: The file, absolute.
        name: The file's name in places.
        offset: Offset of the first byte.
        size: Number of bytes.
        first_line: Number of the first line, from 1.
        checksum: CRC-32 of the bytes.
    """

    path: Path
    name: str
    offset: int
    size: int
    first_line: int
    checksum: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Where the rows of one chunk are.

    Attributes:
        source: Index of the source, as in `Chunk`.
        spans: The lines, in order; blank ones among them are no rows.
        num_rows: Number of rows.
    """

    source: int
    spans: tuple[Span, ...]
    num_rows: int

    @property
    def size(self) -> int:
        """Bytes of the lines."""
        return sum(span.size for span in self.spans)


class SourceCutter:
    """Cuts the files of one source into pieces while their bytes pass by, file after file, in order."""

    def __init__(self, number: int, source: Input) -> None:
        """Prepare to cut.

        Args:
            number: Index of the source.
            source: The source, with files.
        """
        self._number = number
        self._files = list(files_on_disk(source))
        self._pieces: list[Piece] = []
        self._spans: list[Span] = []
        self._rows = self._size = 0
        self._file = 0
        self._is_new = self._has_lines = True
        self._begin_file()

    @property
    def pieces(self) -> tuple[Piece, ...] | None:
        """All pieces; None if a file was not seen, has no row, or is not laid out in lines."""
        return tuple(self._pieces) if self._has_lines and self._file == len(self._files) else None

    def watch(self, path: Path, block: bytes) -> None:
        """Take the next block of a file, and empty bytes at its end. Blocks of a file that is not due are ignored."""
        if not self._has_lines or self._file == len(self._files) or self._files[self._file][0] != path:
            return
        if self._is_new and block:
            first = first_line_of(io.BytesIO(block))
            if first is None:
                self._has_lines, self._rest = False, b""
                return
            self._start, self._end, block, self._is_new = first, first, block[first:], False
        if block:
            self._take(block)
        else:
            self._end_file()

    def _begin_file(self) -> None:
        """Start with a new file: nothing of it is counted."""
        self._is_new = True
        self._rest = b""
        self._start = self._end = 0  # of the open span, in the file
        self._first_line, self._line = 1, 0
        self._checksum = 0
        self._rows_before = self._rows_of_file = 0

    def _take(self, block: bytes) -> None:
        *lines, rest = (data := self._rest + block).split(b"\n")
        first, seen = self._end, 0  # offset of `data` in the file; bytes of it that are in the checksum
        for line in lines:
            self._end += len(line) + 1
            self._line += 1
            if line and not line.isspace() and self._is_full(len(line) + 1):
                self._checksum = zlib.crc32(memoryview(data)[seen : self._end - first], self._checksum)
                seen = self._end - first
                self._close_piece()
        self._checksum = zlib.crc32(memoryview(data)[seen : self._end - first], self._checksum)
        self._rest = rest

    def _is_full(self, size: int) -> bool:
        """Count a row of `size` bytes, and return whether the piece is full with it."""
        self._rows += 1
        self._rows_of_file += 1
        self._size += size
        return self._rows >= CHUNK_ROWS or self._size >= CHUNK_BYTES

    def _end_file(self) -> None:
        if self._rest:  # the last line has no line feed
            self._end += len(self._rest)
            self._line += 1
            self._checksum = zlib.crc32(self._rest, self._checksum)
            if not self._rest.isspace() and self._is_full(len(self._rest)):
                self._close_piece()
        self._close_span()
        if not self._rows_of_file:  # reading it is an error, which names the file
            self._has_lines = False
        self._file += 1
        if self._file == len(self._files):
            self._close_piece()
        self._begin_file()

    def _close_span(self) -> None:
        """End the lines of this file that belong to the open piece. Blank lines alone are left out."""
        if self._rows > self._rows_before:
            path, name = self._files[self._file]
            size = self._end - self._start
            self._spans.append(Span(path.absolute(), name, self._start, size, self._first_line, self._checksum))
        self._start, self._first_line, self._checksum = self._end, self._line + 1, 0
        self._rows_before = self._rows

    def _close_piece(self) -> None:
        if self._file < len(self._files):
            self._close_span()
        if self._rows:
            self._pieces.append(Piece(self._number, tuple(self._spans), self._rows))
        self._spans = []
        self._rows = self._size = self._rows_before = 0


class Cutters:
    """The cutters of all sources, fed while the files are hashed."""

    def __init__(self, inputs: Sequence[Input]) -> None:
        self._cutters = {number: SourceCutter(number, one) for number, one in enumerate(inputs) if _may_have_lines(one)}

    def watch(self, path: Path, block: bytes) -> None:
        """Take a block of a file (see `fingerprint_of`)."""
        for cutter in self._cutters.values():
            cutter.watch(path, block)

    def pieces_of(self, number: int, source: Input) -> tuple[Piece, ...] | str:
        """Return the pieces of a source, or why its rows cannot be read by their offset, for people.

        A file whose hash was known has not been read yet; it is read now.

        Raises:
            DataError: If a file cannot be read.
        """
        if not source.files:
            return "they come from the Hub"
        if source.drawn is not None:
            return "some of them are drawn"
        for path, name in source.files:
            if reason := why_not_lines(path, source=name, options=source.options):
                return f"{path.name}: {reason}"
        cutter = self._cutters[number]
        if cutter.pieces is None:
            cutter = SourceCutter(number, source)
            for path, _ in files_on_disk(source):
                _read_all(path, cutter)
        return "a file has no row" if cutter.pieces is None else cutter.pieces


def _may_have_lines(source: Input) -> bool:
    files = files_on_disk(source)
    return bool(files) and all(container_of(path) == "json" and not is_compressed(path) for path, _ in files)


def files_on_disk(source: Input) -> tuple[tuple[Path, str], ...]:
    """Return the files of a source that are paths; remote ones are read by the process that hands rows out."""
    return tuple((path, name) for path, name in source.files if isinstance(path, Path))


def _read_all(path: Path, cutter: SourceCutter) -> None:
    size = path.stat().st_size
    with closing(open_bytes(path)) as stream, work(f"cutting {path.name}", total=size or None, unit="bytes") as bar:
        while block := stream.read(_BLOCK):
            cutter.watch(path, block)
            bar.advance(len(block))
    cutter.watch(path, b"")


def read_piece(piece: Piece) -> Chunk:
    """Read the rows of a piece, on any machine that sees its files.

    Raises:
        DataError: If a file is not there, or has other bytes than the ones that were hashed.
    """
    numbered = [(span, line, row) for span in piece.spans for line, row in _rows_of(span)]
    places = tuple(Place(span.name, line) for span, line, _ in numbered)
    rows: tuple[Any, ...] = tuple(row for _, _, row in numbered)
    assert len(rows) == piece.num_rows
    return Chunk(piece.source, places, rows)


def _rows_of(span: Span) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a span that are rows, with their numbers."""
    for number, line in enumerate(io.BytesIO(_bytes_of(span)), start=span.first_line):
        if not line.isspace():
            yield number, line


def _bytes_of(span: Span) -> bytes:
    try:
        with span.path.open("rb") as file:
            file.seek(span.offset)
            data = file.read(span.size)
    except OSError as error:
        raise DataError(
            f"{span.path}: cannot be read on the machine {platform.node()} ({error.strerror or error}). Expected the "
            "same files on every node. Put the data on a disk that all nodes share, or set data.cluster: none."
        ) from None
    if len(data) != span.size or zlib.crc32(data) != span.checksum:
        raise DataError(
            f"{span.path}: the machine {platform.node()} reads other bytes there than were hashed before. Expected one "
            "file for all nodes, which does not change meanwhile. Start again, or put the data on a shared disk."
        )
    return data
