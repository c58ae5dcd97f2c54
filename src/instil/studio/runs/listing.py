"""All runs of a workspace as rows of a table: summarised once, and again when a file of theirs has changed."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from instil.errors import RunError
from instil.reporting.runs import RunSummary, sorted_runs, summary_of
from instil.studio.lttb import Point, lttb
from instil.studio.runs.glance import Glance
from instil.studio.runs.holder import holder_of
from instil.studio.runs.notes import NOTES, Notes, read_notes
from instil.studio.workspace import RunEntry
from instil.training.records.run_folder import Run, RunPaths
from instil.training.records.run_settings import chosen_among, settings_of

SPARK_POINTS = 40
"""Points of the small curve in a row."""
READ_SECONDS = 0.6
"""How long a page may read runs that it has not seen; the others follow on a second request."""
LATER_SECONDS = 2.0
"""How long the second request may."""
Stamp = tuple[tuple[int, int], ...]
"""Time and size of each file that a row depends on."""


@dataclass(frozen=True, slots=True)
class Row:
    """A run in the table.

    Attributes:
        path: Its path below the workspace.
        summary: What it is; of one that has not been read yet, name, state and date.
        notes: Tags and note.
        spark: A few points of its smoothed loss.
        settings: All its settings, for the ones that differ.
        is_read: False if there was no time to read it.
    """

    path: str
    summary: RunSummary
    notes: Notes = field(default_factory=Notes)
    spark: tuple[Point, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    is_read: bool = True


class Listing:
    """The rows of one workspace. What it keeps is found again by reading; threads may share it.

    Args:
        root: The workspace.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._rows: dict[str, tuple[Stamp, Row]] = {}
        self._reading: dict[str, Glance] = {}
        self._lock = threading.Lock()

    def rows(self, runs: Sequence[RunEntry], *, seconds: float = READ_SECONDS) -> list[Row]:
        """Return a row for each run, with the settings in which they differ.

        Args:
            runs: The runs, as `contents` lists them.
            seconds: How long reading may take.
        """
        with self._lock:
            deadline = time.monotonic() + seconds
            rows = [self._row(entry, deadline) for entry in runs]
            known = {entry.path for entry in runs}
            self._rows = {path: kept for path, kept in self._rows.items() if path in known}
            self._reading = {path: glance for path, glance in self._reading.items() if path in known}
        return with_differences(rows)

    def _row(self, entry: RunEntry, deadline: float) -> Row:
        folder = self._root / entry.path
        stamp = _stamp(folder)
        before = self._rows.get(entry.path)
        if before is not None and before[0] == stamp:
            # The lock is no part of the stamp: a process that dies changes no file.
            state = before[1].summary.state
            row = before[1] if state == "damaged" else _with_state(before[1], _state(folder, state))
        elif time.monotonic() < deadline and (read := self._read(entry, folder, deadline)) is not None:
            row = read
            self._rows[entry.path] = stamp, row
        else:
            return before[1] if before else Row(entry.path, _unread(entry, folder), is_read=False)
        return row

    def _read(self, entry: RunEntry, folder: Path, deadline: float) -> Row | None:
        """Read a run; None if its metrics take longer than there is time."""
        metrics = RunPaths(folder).metrics
        glance = self._reading.pop(entry.path, None) or Glance(metrics)
        try:
            is_whole = glance.read(deadline)
            if not is_whole or entry.state == "running":  # its next lines are read from there
                self._reading[entry.path] = glance
            if not is_whole:
                return None
            settings = _shared(settings_of(folder))
            summary = summary_of(
                Run.open(folder),
                name=entry.path,
                settings=settings,
                last=glance.last,
                seconds=glance.seconds,
                others=glance.others,
            )
            notes = read_notes(folder)
        except (RunError, OSError, KeyError, TypeError, AttributeError, ValueError) as error:
            problem = str(error) if isinstance(error, RunError) else f"{type(error).__name__}: {error}"
            damaged = RunSummary(folder, entry.path, "damaged", date=entry.changed, problem=problem)
            return Row(entry.path, damaged)
        summary = replace(summary, state=_state(folder, summary.state))
        return Row(entry.path, summary, notes, tuple(lttb(glance.losses, SPARK_POINTS)), settings)


def _shared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings whose texts are the same objects in all runs: 500 runs have the same hundred names."""
    return {sys.intern(name): sys.intern(value) if type(value) is str else value for name, value in settings.items()}


def _unread(entry: RunEntry, folder: Path) -> RunSummary:
    return RunSummary(folder, entry.path, entry.state, date=entry.changed)


def _state(folder: Path, state: str) -> str:
    """Return whether a run that is not finished runs now."""
    if state == "finished":
        return state
    return "not finished" if holder_of(folder) is None else "running"


def _with_state(row: Row, state: str) -> Row:
    return row if row.summary.state == state else replace(row, summary=replace(row.summary, state=state))


def _stamp(folder: Path) -> Stamp:
    paths = RunPaths(folder)
    files = (
        folder,
        paths.recipe,
        paths.metrics,
        paths.results,
        paths.checkpoints,
        folder / "evaluation" / "evaluation.json",
        folder / NOTES,
    )
    return tuple(_time_and_size(path) for path in files)


def _time_and_size(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return 0, -1
    return status.st_mtime_ns, status.st_size


def with_differences(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the settings in which those that could be read differ."""
    intact = [row for row in rows if row.is_read and not row.summary.problem]
    differing = dict(
        zip([row.path for row in intact], chosen_among([row.settings for row in intact]), strict=True) if intact else ()
    )
    return [
        replace(row, summary=replace(row.summary, settings=differing[row.path])) if row.path in differing else row
        for row in rows
    ]


def shown_rows(
    rows: Sequence[Row], *, query: str = "", state: str = "", tag: str = "", sort: str = "date"
) -> list[Row]:
    """Return the rows that pass the filters, sorted.

    Args:
        rows: All rows.
        query: Words that all must occur in path, model, tags, note or settings that differ; case does not count.
        state: Only runs in this state, or empty.
        tag: Only runs with this tag, or empty.
        sort: As in `reporting.runs.runs`; a ``-`` before it turns the order around.

    Raises:
        RunError: If nothing can be sorted by `sort`.
    """
    words = query.lower().split()
    passed = [
        row
        for row in rows
        if (not state or row.summary.state == state)
        and (not tag or tag in row.notes.tags)
        and all(word in text_of(row) for word in words)
    ]
    by_path = {row.path: row for row in passed}
    ordered = sorted_runs([row.summary for row in passed], by=sort.removeprefix("-")) if passed else []
    if sort.startswith("-"):
        ordered.reverse()
    return [by_path[summary.name] for summary in ordered]


def text_of(row: Row) -> str:
    """Return what a search looks in."""
    settings = " ".join(f"{name} {value}" for name, value in row.summary.settings.items())
    return " ".join((row.path, row.summary.model, *row.notes.tags, row.notes.note, settings)).lower()
