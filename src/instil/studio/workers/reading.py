"""Rows of any data by their position or place, for the helper processes.

A text file is read from the nearest known byte (`line_file`). Everything else is read from its start, and the reader
stays open, so that the next rows come without reading the ones before again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from instil.conversation import Place
from instil.data.formats.row_format import ReadOptions
from instil.data.sources.stored import SourceFile
from instil.inspection.survey import source_work
from instil.preparation.cache_key import cache_folder
from instil.preparation.chunks import find_input
from instil.preparation.encode_rows import SourceWork
from instil.recipe import Recipe
from instil.studio.workers.line_file import line_file

Row = tuple[int, Place, Any]
"""Position from 0, place, and the row, not parsed."""


class Rows:
    """The rows of the first source of a recipe.

    Args:
        recipe: The recipe.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._source = find_input(recipe.data.sources[0], heldout=False, spool=cache_folder(recipe))
        self.work: SourceWork = source_work(recipe, self._source)
        self._open: Iterator[tuple[Place, Any]] | None = None
        self._next = 0

    @property
    def options(self) -> ReadOptions:
        """How its rows are read."""
        return self.work.options

    @property
    def files(self) -> Sequence[tuple[SourceFile, str]]:
        """Its files with their names in places; empty for a Hub data set."""
        return self._source.files

    def start_at(self, start: int) -> Iterator[Row]:
        """Yield the rows from a position on."""
        file = None
        if len(self._source.files) == 1:
            ((path, name),) = self._source.files
            if isinstance(path, Path):
                file = line_file(path, source=name, delimiter=self._source.settings.delimiter)
        if file is not None:
            yield from file.rows(start)
            return
        if self._open is None or start < self._next:
            self._open, self._next = self._source.read(), 0
        rows, self._open = self._open, None  # a reader that has failed is not asked again
        for place, row in rows:
            self._next += 1
            if self._next > start:
                self._open = rows
                yield self._next - 1, place, row
                self._open = None

    def at(self, positions: Sequence[int]) -> list[Row]:
        """Return the rows at these positions; those behind the last row are left out."""
        wanted, found = sorted(set(positions)), []
        while wanted:
            for row in self.start_at(wanted[0]):
                if row[0] == wanted[0]:
                    found.append(row)
                    wanted.pop(0)
                # What lies far ahead is looked up anew, where a jump may be possible.
                if not wanted or wanted[0] > row[0] + 4096:
                    break
            else:
                break
        return found

    def at_places(self, places: Sequence[str]) -> list[Row]:
        """Return the rows of these places, as findings name them; in the order of the data."""
        if len(self._source.files) == 1:
            ((path, name),) = self._source.files
            delimiter = self._source.settings.delimiter
            file = line_file(path, source=name, delimiter=delimiter) if isinstance(path, Path) else None
            if file is not None:
                lines = {int(line) for _, _, line in (place.rpartition(":") for place in places) if line.isdecimal()}
                return list(file.at_lines(lines))
        wanted, found = set(places), []
        for row in self.start_at(0):
            if str(row[1]) in wanted:
                found.append(row)
                wanted.discard(str(row[1]))
                if not wanted:
                    break
        return found


def rows_of(settings: Mapping[str, Any]) -> Rows:
    """Return the rows of the settings of a recipe."""
    return Rows(Recipe.from_mapping(settings, source="the studio"))
