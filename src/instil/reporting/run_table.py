"""Runs as a table: which columns fit a width, and what stands in them.

Why: one run is one line, so that twenty runs fit a screen. Columns are left out before a line is folded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from rich.cells import cell_len, set_cell_size

from instil.reporting.runs import RunSummary, figure_named, short_figure
from instil.training.records.run_figures import figure_words
from instil.training.records.run_settings import in_words
from instil.units import byte_size, duration, loss_words, share_words
from instil.views.visible import plain

GAP = 2
_LEAST_SETTINGS, _SHARE_OF_SETTINGS = 16, 0.22
"""Columns that the settings get, if runs differ in any, and the part of the terminal's width."""
_LONGEST_NAME, _SHARE_OF_NAME = 40, 0.26
"""Most columns of a name, and the part of the terminal's width."""
NOT_FINISHED, RUNNING = "*", "+"
"""Marks behind the names of runs, where there is no column for their state."""
_WIDE = 100
"""Columns of a terminal from which states are words, where a run is not finished."""
_GROUPS_FROM = 2
"""Runs in a folder from which its name stands above them."""


@dataclass(frozen=True, slots=True)
class RunColumn:
    """A column: its head, its cells, and whether they are numbers, which stand right."""

    name: str
    cells: Sequence[str]
    number: bool = False

    @property
    def width(self) -> int:
        """Width of the widest cell."""
        return max(cell_len(text) for text in (self.name, *self.cells))


@dataclass(frozen=True, slots=True)
class RunTable:
    """A table of runs.

    Attributes:
        columns: The columns that fit.
        rows: The run of each row; None where a row is the name of a folder alone.
        left_out: Names of the columns that do not fit.
        shared: The settings that most runs have, and that their rows leave out, in words.
        is_cut: Whether a name or a setting is shown in part.
    """

    columns: Sequence[RunColumn]
    rows: Sequence[RunSummary | None]
    left_out: Sequence[str]
    shared: str
    is_cut: bool


def run_table(runs: Sequence[RunSummary], *, width: int | None, grouped: bool = False) -> RunTable:
    """Lay out a table of intact runs.

    Args:
        runs: The runs, in order.
        width: Columns of the terminal; None shows everything.
        grouped: Whether runs in one folder stand together, with its name above them.
    """
    rows, names = _grouped(runs) if grouped else (list(runs), [plain(run.name) for run in runs])
    is_cut = False
    with_state = (width is None or width >= _WIDE) and any(run.state != "finished" for run in runs)
    if width is not None:
        longest = min(_LONGEST_NAME, int(_SHARE_OF_NAME * width))
        is_cut = any(cell_len(name) > longest for name in names)
        marks = ["" if with_state else _mark(run) for run in rows]
        names = [f"{_cut(name, longest)}{mark}" for name, mark in zip(names, marks, strict=True)]
    ranked = [column for column in _ranked(rows, with_state=with_state) if any(column.cells)]
    shared = shared_settings(runs)
    own = RunColumn("differs in", [_own_settings(run, shared) for run in rows])
    wanted = GAP + max(_LEAST_SETTINGS, int(_SHARE_OF_SETTINGS * (width or 0) - 2)) if any(own.cells) else 0
    shown, left_out = [RunColumn("run", names)], []
    for column in ranked:
        taken = sum(other.width + GAP for other in (*shown, column)) - GAP
        if width is not None and taken + wanted > width:
            left_out.append(column.name)
        else:
            shown.append(column)
    if wanted:
        room = None if width is None else max(8, width - sum(column.width + GAP for column in shown))
        cells = [_cut_settings(text, room) for text in own.cells]
        is_cut = is_cut or cells != [plain(text) for text in own.cells]
        shown.append(RunColumn(own.name, cells))
    return RunTable(_in_order(shown), rows, left_out, in_words(shared), is_cut)


def shared_settings(runs: Sequence[RunSummary]) -> dict[str, Any]:
    """Return, of the settings in which runs differ, the values that more than half of them have."""
    values: dict[str, list[Any]] = {}
    for run in runs:
        for name, value in run.settings.items():
            values.setdefault(name, []).append(value)
    most = {name: max(found, key=found.count) for name, found in values.items()}
    return {name: value for name, value in most.items() if values[name].count(value) > len(runs) / 2}


def _own_settings(run: RunSummary | None, shared: Mapping[str, Any]) -> str:
    own = {} if run is None else run.settings
    return in_words({name: value for name, value in own.items() if name not in shared or shared[name] != value})


def _mark(run: RunSummary | None) -> str:
    marks = {"not finished": f" {NOT_FINISHED}", "running": f" {RUNNING}"}
    return "" if run is None else marks.get(run.state, "")


def _grouped(runs: Sequence[RunSummary]) -> tuple[list[RunSummary | None], list[str]]:
    """Return the runs with those of one folder together, below a row with its name."""
    folders: dict[str, list[RunSummary]] = {}
    for run in runs:
        above = str(PurePosixPath(run.name).parent)
        folders.setdefault(run.name if above == "." else f"{above}/", []).append(run)
    rows: list[RunSummary | None] = []
    names = []
    for folder, members in folders.items():
        if folder.endswith("/") and len(members) >= _GROUPS_FROM:
            rows.append(None)
            names.append(folder)
            names += [f"  {PurePosixPath(run.name).name}" for run in members]
        else:
            names += [run.name for run in members]
        rows += members
    return rows, [plain(name) for name in names]


def _ranked(rows: Sequence[RunSummary | None], *, with_state: bool) -> list[RunColumn]:
    """Return the columns between the name and the settings, the most important first."""
    runs = [run for run in rows if run]
    states = [run.state if with_state else "" for run in runs]
    best = [_loss_at(run.best_heldout_loss, run.best_step) if run.best_step != run.heldout_step else "" for run in runs]
    tasks = list(dict.fromkeys(name for run in runs for name in run.figures))
    tasks.sort(key=lambda name: name.startswith("behaviour."))
    columns = [
        RunColumn("held-out", [_loss_at(run.heldout_loss, run.heldout_step) for run in runs], number=True),
        RunColumn("won", [share_words(run.heldout_accuracy) for run in runs], number=True),
        RunColumn("state", states),
        RunColumn("date", [short_date(run.date) for run in runs]),
        RunColumn("size", [byte_size(run.size) for run in runs], number=True),
        *(_task_column(runs, name, tasks) for name in tasks[:1]),
        RunColumn("best", best, number=True),
        RunColumn("steps", [f"{run.steps:,}" for run in runs], number=True),
        RunColumn("loss", [number(run.loss) for run in runs], number=True),
        *(_task_column(runs, name, tasks) for name in tasks[1:]),
        RunColumn("in steps", [duration(run.seconds) for run in runs], number=True),
        RunColumn("model", [PurePosixPath(run.model).name for run in runs]),
    ]
    return [RunColumn(c.name, _spread(c.cells, rows), c.number) for c in columns]


def _spread(cells: Sequence[str], rows: Sequence[RunSummary | None]) -> list[str]:
    """Return the cells of the runs, with an empty one in every row that is no run."""
    left = iter(cells)
    return [next(left) if run else "" for run in rows]


_ORDER = ("run", "state", "held-out", "won", "best", "loss", "steps")
_LAST = ("in steps", "size", "date", "model", "differs in")


def _in_order(columns: Sequence[RunColumn]) -> list[RunColumn]:
    def place(column: RunColumn) -> int:
        if column.name in _ORDER:
            return _ORDER.index(column.name)
        return 100 + _LAST.index(column.name) if column.name in _LAST else 50

    return sorted(columns, key=place)


def _task_column(runs: Sequence[RunSummary], name: str, names: Sequence[str]) -> RunColumn:
    short = short_figure(name)
    is_unique = [short_figure(other) for other in names].count(short) == 1
    cells = [figure_words(figure_named(run.figures, name)) for run in runs]
    return RunColumn(short if is_unique and short not in (*_ORDER, *_LAST) else name, cells, number=True)


def _loss_at(loss: float | None, step: int | None) -> str:
    return "" if loss is None else f"{number(loss)}@{step}"


def number(value: float | None) -> str:
    """Return a loss in words, nothing where there is none."""
    return "" if value is None else loss_words(value)


def short_date(date: datetime | None, *, now: datetime | None = None) -> str:
    """Return a date in few characters: of today the time, of this year the day, else the month.

    Example:
        >>> at = datetime(2026, 11, 29, 13, 4).astimezone()
        >>> [short_date(at, now=datetime(*day).astimezone()) for day in ((2026, 11, 29), (2026, 12, 1), (2027, 1, 1))]
        ['13:04', '29 Nov', 'Nov 2026']
    """
    if date is None:
        return ""
    today = now or datetime.now().astimezone()
    if date.date() == today.date():
        return date.strftime("%H:%M")
    # The names of months are English in every locale.
    month = _MONTHS[date.month - 1]
    return f"{date.day} {month}" if date.year == today.year else f"{month} {date.year}"


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _cut(text: str, most: int) -> str:
    """Return a name that is too long without its middle: names begin and end differently."""
    if cell_len(text) <= most:
        return text
    half = (most - 1) // 2
    end = text[len(text) - half :]
    while cell_len(end) > half:
        end = end[1:]
    return f"{set_cell_size(text, most - 1 - cell_len(end)).rstrip()}…{end}"


def _cut_settings(text: str, room: int | None) -> str:
    text = plain(text)
    if room is None or cell_len(text) <= room:
        return text
    return set_cell_size(text, room - 1).rstrip(", ") + "…"
