"""Cuts the rows of all sources into chunks: what one call of a worker takes.

Chunks have the same borders whatever the number of workers, so the store has the same bytes. Questionable on purpose: a
row stays raw (a line of bytes where the file has lines), so that parsing is the worker's share too.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from instil.conversation import Place
from instil.data.sources.files import find_files, standard_input
from instil.data.sources.rows import STDIN, is_hub_id, read_file, read_raw_rows
from instil.files import aside_of, sha256_of, sweep_dead
from instil.preparation.split import draw
from instil.recipe import Source

CHUNK_ROWS = 512
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive rows of one source.

    Attributes:
        source: Which source of the recipe they are of.
        places: Where each row stands.
        rows: The rows, raw.
    """

    source: int
    places: tuple[Place, ...]
    rows: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Input:
    """One source of a recipe, found.

    Attributes:
        settings: What the recipe says.
        files: The files that it means; empty for a Hub data set.
        heldout: Whether its rows are evaluated on, not trained.
        drawn: Positions of the rows to take, or None for all.
        num_rows: Number of its rows, known where rows were drawn.
    """

    settings: Source
    files: tuple[tuple[Path, str], ...]
    heldout: bool
    drawn: npt.NDArray[np.int64] | None = None
    num_rows: int | None = None

    def read(self) -> Iterator[tuple[Place, Any]]:
        """Give every row, raw, with its place."""
        if not self.files:
            given = self.settings
            yield from read_raw_rows(given.path, split=given.split, subset=given.subset, revision=given.revision)
        for path, name in self.files:
            yield from read_file(path, source=name)

    def taken(self) -> Iterator[tuple[Place, Any]]:
        """Give the rows that are taken: those drawn, or every one."""
        if self.drawn is None:
            yield from self.read()
            return
        wanted = iter(self.drawn.tolist())
        following = next(wanted, None)
        for position, row in enumerate(self.read()):
            if position == following:
                yield row
                following = next(wanted, None)
                if following is None:
                    return


def find_input(source: Source, *, heldout: bool, spool: Path) -> Input:
    """Find the files of a source; standard input is copied into a file first, so that it can be read twice.

    Args:
        source: The source.
        heldout: Whether it is a source of held-out rows.
        spool: Folder for the copy.

    Raises:
        DataError: If nothing is there.
    """
    if source.path == "-":
        return Input(source, ((_spooled(spool), STDIN),), heldout)
    return input_of(source, heldout=heldout)


def input_of(source: Source, *, heldout: bool = False) -> Input:
    """Find the files of a source that is not standard input.

    Raises:
        DataError: If nothing is there.
    """
    if is_hub_id(source.path):
        return Input(source, (), heldout)
    return Input(source, tuple((path, str(path)) for path in find_files(source.path, split=source.split)), heldout)


def _spooled(folder: Path) -> Path:
    """Copy standard input into a file that is named by its content."""
    folder.mkdir(parents=True, exist_ok=True)
    sweep_dead(folder / "stdin.json")
    aside = aside_of(folder / "stdin.json")
    try:
        with aside.open("wb") as file:
            shutil.copyfileobj(standard_input(), file, 1 << 20)
        spool = folder / f"stdin-{sha256_of(aside)[:32]}.json"
        os.replace(aside, spool)
    finally:
        aside.unlink(missing_ok=True)
    return spool


def draw_rows(found: Input, *, seed: int) -> Input:
    """Decide which rows of a source are taken, where the recipe asks for a number of them."""
    if found.settings.rows is None:
        return found
    total = 0

    def counted() -> Iterator[None]:
        nonlocal total
        for _ in found.read():
            total += 1
            yield None

    drawn = draw(counted(), count=found.settings.rows, seed=seed)
    return Input(found.settings, found.files, found.heldout, drawn, total)


def cut(inputs: Sequence[Input]) -> Iterator[Chunk]:
    """Give the rows of all inputs in order, in chunks."""
    for number, found in enumerate(inputs):
        places: list[Place] = []
        rows: list[Any] = []
        size = 0
        for place, row in found.taken():
            places.append(place)
            rows.append(row)
            size += len(row) if isinstance(row, bytes) else 0
            if len(rows) >= CHUNK_ROWS or size >= CHUNK_BYTES:
                yield Chunk(number, tuple(places), tuple(rows))
                places, rows, size = [], [], 0
        if rows:
            yield Chunk(number, tuple(places), tuple(rows))
