"""The comparison of a sweep's runs: rows for the screen, a CSV file, the curves in one plot, and what to do next."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from instil.evaluation.meanings import label_of
from instil.files import write_text_atomic
from instil.recipe import Recipe
from instil.reporting.plots import draw_losses
from instil.screen import Cell, Column
from instil.sweeps.names import shown_value
from instil.sweeps.record import Sweep, SweepPaths, SweepRun, shown_figure
from instil.sweeps.space import HELDOUT, Range, Space
from instil.training.records.metrics import read_metrics
from instil.training.records.run_folder import RunPaths
from instil.units import duration, share_words


def comparison_table(sweep: Sweep) -> tuple[list[Column], list[list[str | Cell]]]:
    """Return the columns and the rows of the comparison: the best run first, then those without a result."""
    ranked = sweep.ranking
    others = [run for run in sweep.runs if run not in ranked]
    by = [] if sweep.best_by == HELDOUT else [Column(label_of(sweep.best_by), number=True)]
    columns = [
        Column("run"),
        *by,
        Column("held-out loss", number=True),
        *([Column("won", number=True)] if sweep.shows_won else []),
        Column("loss", number=True),
        Column("steps", number=True),
        Column("in steps", number=True),
        Column("state"),
    ]
    return columns, [_row(run, sweep, has_figure=bool(by)) for run in (*ranked, *others)]


def _row(run: SweepRun, sweep: Sweep, *, has_figure: bool) -> list[str | Cell]:
    is_best = run == sweep.best
    state = Cell("best", "good") if is_best else Cell(run.state, "bad" if run.state == "failed" else "quiet")
    return [
        Cell(run.name, "good") if is_best else run.name,
        *([shown_figure(run.value)] if has_figure else []),
        shown_figure(run.heldout_loss),
        *([share_words(run.heldout_accuracy)] if sweep.shows_won else []),
        shown_figure(run.loss),
        "" if run.steps is None else f"{run.steps:,}",
        "" if run.seconds is None else duration(run.seconds),
        state,
    ]


def write_table(sweep: Sweep) -> None:
    """Write ``comparison.csv``: one line a run, with the settings that vary and every figure."""
    records = sweep.table
    names = list(dict.fromkeys(name for record in records for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in record.items()} for record in records)
    write_text_atomic(SweepPaths(sweep.folder).table, text.getvalue(), errors="replace")


def _cell(value: object) -> object:
    return shown_value(value) if isinstance(value, list | Mapping | bool) else "" if value is None else value


def draw_curves(sweep: Sweep) -> bool:
    """Draw the losses of all runs that have a step into ``losses.png``. Return False if none has."""
    metrics = {run.name: read_metrics(RunPaths(run.folder).metrics) for run in sweep.runs}
    drawn = {name: lines for name, lines in metrics.items() if any("loss" in line for line in lines)}
    if drawn:
        draw_losses(drawn, SweepPaths(sweep.folder).picture, title=sweep.folder.name)
    return bool(drawn)


def value_notes(sweep: Sweep, space: Space) -> list[str]:
    """Return what the values of each setting say: that they changed nothing, or that the best one is at an end."""
    notes = []
    for name, values in space.values.items():
        if _changed_nothing(sweep, name):
            notes.append(f"{name} changed nothing: runs that differ in it alone ended with the same losses")
            continue
        tried = [] if isinstance(values, Range) else [value for value in values if _is_number(value)]
        best = None if sweep.best is None else sweep.best.settings.get(name)
        ended = {str(run.settings.get(name)) for run in sweep.ranking}
        if len(tried) > 1 and len(ended) > 1 and best in (min(tried), max(tried)):
            edge, more = ("largest", "larger") if best == max(tried) else ("smallest", "smaller")
            notes.append(f"{name} {shown_value(best)} is the {edge} that was tried; {more} values may be better")
    return notes


def _changed_nothing(sweep: Sweep, name: str) -> bool:
    """Return True if all runs that differ in one setting alone ended alike; False if there are no two such runs.

    Another setting may overrule one, such as `training.max_steps` the number of epochs.
    """
    ends: dict[str, list[tuple[float | None, ...]]] = {}
    for run in sweep.ranking:
        others = str({key: value for key, value in run.settings.items() if key != name})
        ends.setdefault(others, []).append((run.loss, run.heldout_loss, run.value))
    groups = [group for group in ends.values() if len(group) > 1]
    return bool(groups) and all(len(set(group)) == 1 for group in groups)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def next_steps(sweep: Sweep, recipe: Recipe) -> list[tuple[str, str]]:
    """Return what to do with the best run: names and commands."""
    best = sweep.best
    if best is None:
        return []
    options = " ".join(f"--{name} {shown_value(value)}" for name, value in best.settings.items())
    held = "" if not recipe.data.holds_out else " (rows that no run has seen)"
    return [
        ("try it", f"instil chat {best.folder}"),
        ("measure it", f"instil evaluate {best.folder} --data TEST.jsonl{held}"),
        ("train with it", options),
    ]
