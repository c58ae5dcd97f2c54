"""Find the rows of all sources and cut them into chunks, the unit of work of `encode_rows`.

Chunks have the same borders for any number of workers, so the store has the same bytes.

Why: a row stays raw here (a line of bytes where the file has lines), so that the workers share the parsing too.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from instil.conversation import ROWS, Place
from instil.data.memory_rows import find_saved_rows, is_saved_rows
from instil.data.reading import detect, other_names_in
from instil.data.sources.files import container_of, find_files, left_in, open_stored, size_of, standard_input
from instil.data.sources.rows import STDIN, FileOptions, is_hub_id, read_file, read_raw_rows, seen_in
from instil.data.sources.stored import SourceFile
from instil.files import aside_of, sha256_of, sweep_dead, sync_path
from instil.preparation.split import draw
from instil.recipe import Reading, Source
from instil.screen import Bar, work

CHUNK_ROWS = 512
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive rows of one source.

    Attributes:
        source: Index of the source in the recipe; held-out sources follow the others.
        places: Place of each row.
        rows: The rows, not parsed.
    """

    source: int
    places: tuple[Place, ...]
    rows: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Input:
    """One source of a recipe, with its files.

    Attributes:
        settings: The source's settings.
        files: Its files, each with the name used in places; empty for a Hub data set.
        heldout: Whether its rows are held out for evaluation.
        drawn: Positions of the rows to take, sorted; None for all.
        num_rows: Number of its rows; known only where rows were drawn.
    """

    settings: Source
    files: tuple[tuple[SourceFile, str], ...]
    heldout: bool
    drawn: npt.NDArray[np.int64] | None = None
    num_rows: int | None = None

    def read(self) -> Iterator[tuple[Place, Any]]:
        """Yield every row, not parsed, with its place."""
        if not self.files:
            source = self.settings
            yield from read_raw_rows(source.path, split=source.split, subset=source.subset, revision=source.revision)
        for path, name in self.files:
            yield from read_file(path, source=name, options=self.options)

    @property
    def options(self) -> FileOptions:
        """How its files are read."""
        return FileOptions(self.settings.encoding, self.settings.delimiter, self.settings.sheet)

    def evidence(self, reading: Reading = "sft") -> list[str]:
        """Return the format of each file and the reason for it, one line each, and what else is in a folder.

        Args:
            reading: What the rows are read for.
        """
        settings = self.settings
        left = (
            ""
            if settings.path == "-" or not self.files
            else left_in(settings.path, split=settings.split, subset=settings.subset)
        )
        note = f"{settings.path}: only split {settings.split} is read; not read: {left}; data.sources.split decides"
        return [*self._formats(reading), *([note] if left else [])]

    def _formats(self, reading: Reading) -> list[str]:
        settings = self.settings
        if settings.columns or settings.format != "auto":
            name = "pattern" if settings.columns else settings.format
            seen = {
                "; ".join(
                    ["as the recipe says", *self._other_names(path), *seen_in(path, source=shown, options=self.options)]
                )
                for path, shown in self.files
            }
            return [f"{settings.path}: {name} ({words})" for words in sorted(seen) or ["as the recipe says"]]
        if not self.files:
            path, subset, revision = settings.path, settings.subset, settings.revision
            found = detect(path, split=settings.split, subset=subset, revision=revision, reading=reading)
            return [str(detected) for detected in found]
        return [
            f"{name}: {detected.format} ({detected.evidence})"
            for path, name in self.files
            for detected in detect(path, options=self.options, reading=reading)
        ]

    def _other_names(self, path: SourceFile) -> list[str]:
        return [] if self.settings.columns else other_names_in(path, self.settings.format, options=self.options)

    def taken(self) -> Iterator[tuple[Place, Any]]:
        """Yield the drawn rows, or every row where none were drawn."""
        if self.drawn is None:
            yield from self.read()
            return
        positions = iter(self.drawn.tolist())
        next_position = next(positions, None)
        for position, row in enumerate(self.read()):
            if position == next_position:
                yield row
                next_position = next(positions, None)
                if next_position is None:
                    return


def find_input(source: Source, *, heldout: bool, spool: Path) -> Input:
    """Find the files of a source. Standard input is copied to a file first, because it is read twice.

    Args:
        source: The source.
        heldout: Whether its rows are held out.
        spool: Folder for the copy of standard input, and of rows from memory.

    Raises:
        DataError: If there is no such file, folder or data set.
    """
    if source.path == "-":
        return Input(source, ((_spooled(spool), STDIN),), heldout)
    return input_of(source, heldout=heldout, spool=spool)


def input_of(source: Source, *, spool: Path, heldout: bool = False) -> Input:
    """Find the files of a source that is not standard input.

    Args:
        source: The source.
        spool: Folder of rows from memory.
        heldout: Whether its rows are held out.

    Raises:
        DataError: If there is no such file, folder or data set.
    """
    if is_saved_rows(source.path):
        return Input(source, ((find_saved_rows(source.path, spool), ROWS),), heldout)
    if is_hub_id(source.path):
        return Input(source, (), heldout)
    files = find_files(source.path, split=source.split, subset=source.subset)
    return Input(source, tuple((path, str(path)) for path in files), heldout)


def _spooled(folder: Path) -> Path:
    """Copy standard input to a file named after its content."""
    folder.mkdir(parents=True, exist_ok=True)
    sweep_dead(folder / "stdin.json")
    aside = aside_of(folder / "stdin.json")
    try:
        with aside.open("wb") as file:
            shutil.copyfileobj(standard_input(), file, 1 << 20)
        sync_path(aside)
        spool = folder / f"stdin-{sha256_of(aside)[:32]}.json"
        os.replace(aside, spool)
    finally:
        aside.unlink(missing_ok=True)
    return spool


def draw_rows(source: Input, *, seed: int) -> Input:
    """Draw the rows to take from a source, where its settings limit their number. This reads every row once."""
    if source.settings.rows is None:
        return source
    num_rows = 0

    def count_rows() -> Iterator[None]:
        nonlocal num_rows
        with work(f"counting the rows of {source.settings.path}", unit="rows") as bar:
            for _ in source.read():
                num_rows += 1
                bar.advance()
                yield None

    drawn = draw(count_rows(), count=source.settings.rows, seed=seed)
    return Input(source.settings, source.files, source.heldout, drawn, num_rows)


def cut(inputs: Sequence[Input]) -> Iterator[Chunk]:
    """Yield the rows of all inputs in order, in chunks."""
    for number, source in enumerate(inputs):
        yield from cut_source(number, source)


def cut_source(number: int, source: Input) -> Iterator[Chunk]:
    """Yield the rows of one input in chunks. `cluster.pieces` cuts the lines of files in the same way.

    Args:
        number: Index of the input.
        source: The input.
    """
    places: list[Place] = []
    rows: list[Any] = []
    size = 0
    for place, row in source.taken():
        places.append(place)
        rows.append(row)
        size += len(row) if isinstance(row, bytes) else 0
        if len(rows) >= CHUNK_ROWS or size >= CHUNK_BYTES:
            yield Chunk(number, tuple(places), tuple(rows))
            places, rows, size = [], [], 0
    if rows:
        yield Chunk(number, tuple(places), tuple(rows))


_COMPRESSED = (".gz", ".zst", ".bz2", ".xz")


class RowsRead:
    """Counts the rows or bytes of chunks on a bar."""

    def __init__(self, bar: Bar, *, shares: dict[str, float]) -> None:
        self._bar, self._shares = bar, shares
        self._bytes = 0.0

    def counted(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Yield the chunks; each counts when the next one is wanted, because it has been used then."""
        for chunk in chunks:
            yield chunk
            self.count(len(chunk.rows), self.size_of(chunk))

    def size_of(self, chunk: Chunk) -> float:
        """Return the bytes of a chunk's rows in their files; 0 where the bar counts rows."""
        return 0.0 if self._bar.unit == "rows" else sum(map(self._size, chunk.places, chunk.rows))

    def count(self, num_rows: int, size: float) -> None:
        """Count rows that were used, and their bytes."""
        if self._bar.unit == "rows":
            self._bar.advance(num_rows)
        else:
            self._bytes += size
            self._bar.to(min(self._bytes, self._bar.total or self._bytes))

    def _size(self, place: Place, row: Any) -> float:
        if isinstance(row, bytes):
            return len(row) + 1  # its line break
        return self._shares.get(place.source) or len(str(row).encode("utf-8", "replace"))


@contextmanager
def rows_read(inputs: Sequence[Input], *, what: str) -> Iterator[RowsRead]:
    """Show a bar for reading all rows of some sources: in rows where their number is known, else in bytes of the files.

    Why: counting the rows of a file reads all of it. The size of a row is exact where rows are lines; rows of other files
    are measured by their text, and those of a Parquet file share its size evenly.

    Args:
        inputs: The sources.
        what: What is done with the rows, such as "encoding".
    """
    total, unit = _total(inputs)
    shares = _parquet_shares(inputs) if unit == "bytes" else {}
    with work(what, total=total, unit=unit) as bar:
        yield RowsRead(bar, shares=shares)


def _total(inputs: Sequence[Input]) -> tuple[float | None, str]:
    """Return how much there is to read, and its unit: rows without a number where nothing is known beforehand."""
    if inputs and all(source.drawn is not None for source in inputs):
        return float(sum(len(source.drawn) for source in inputs if source.drawn is not None)), "rows"
    files = [path for source in inputs for path, _ in source.files]
    is_known = all(source.files and source.drawn is None for source in inputs)
    if not is_known or any(path.suffix.lower() in _COMPRESSED or container_of(path) == "xlsx" for path in files):
        return None, "rows"
    return float(sum(map(size_of, files))) or None, "bytes"


def _parquet_shares(inputs: Sequence[Input]) -> dict[str, float]:
    """Return the bytes of a row of each Parquet file, by the file's name in places."""
    shares: dict[str, float] = {}
    for source in inputs:
        for path, name in source.files:
            if num_rows := _num_parquet_rows(path):
                shares[name] = size_of(path) / num_rows
    return shares


def _num_parquet_rows(path: SourceFile) -> int:
    """Return the number of rows that a Parquet file's footer says; 0 for any other file, and a damaged one."""
    if container_of(path) != "parquet":
        return 0
    import pyarrow as pa  # Why: keeps `import instil` fast
    import pyarrow.parquet as pq

    try:
        with open_stored(path) as file:
            return int(pq.read_metadata(file).num_rows)
    except (pa.ArrowInvalid, OSError):  # reading it reports what is wrong
        return 0
