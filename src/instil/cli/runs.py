"""``instil runs``: list runs; ``instil runs compare A B …`` compares some and draws a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from instil.reporting.run_table import RunTable
    from instil.reporting.runs import RunSummary
    from instil.screen import Screen

app = App(name="runs", help_format="plaintext")
MOST_BESIDE = 3
"""Runs that a comparison shows as columns; more of them are rows."""
AsJson = Annotated[bool, Parameter(name="json")]


@app.default
def list_runs(
    folder: Path = Path("runs"), *, sort: str = "date", last: int | None = None, as_json: AsJson = False
) -> None:
    """List the runs in a folder and below it, newest first: held-out loss, tasks, size, and what differs.

    A held-out loss is that of the written model, with its step behind @; a lower one stands beside it. A damaged run is
    named below the table, with the reason. What does not fit the terminal is left out and named; --json has everything.

    Args:
        folder: Folder that holds run folders, or a run folder.
        sort: date, heldout, loss, won (pairs), size, name, or a figure of an evaluation such as exact_match.
        last: Show only this many runs, the newest.
        as_json: Print every value as JSON.
    """
    from instil.reporting.runs import runs
    from instil.screen import Screen

    found = runs(folder, sort=sort, last=last)
    if as_json:
        print(json.dumps([run.to_json() for run in found], indent=1, default=str))
        return
    screen = Screen()
    _show_table(screen, found, grouped=sort == "date")


@app.command
def compare(*runs: Path, plot: Path | None = None, as_json: AsJson = False) -> None:
    """Show the results of two or more runs and the settings in which they differ, and draw their losses and figures.

    Args:
        runs: Run folders.
        plot: PNG file to write. Default: in a folder comparisons beside the first run.
        as_json: Print every value as JSON; the plot is drawn only if --plot is set.
    """
    from instil.errors import RunError
    from instil.reporting.plots import draw_losses
    from instil.reporting.run_names import short_names
    from instil.reporting.runs import summarise
    from instil.screen import Screen, work
    from instil.training.records.run_folder import Run
    from instil.training.records.run_settings import differences

    if len(runs) < 2:
        raise RunError(f"compare: found {len(runs)} run. Expected two or more run folders. Name them.")
    names = short_names(runs)
    found = [summarise(run, name=name) for run, name in zip(runs, names, strict=True)]
    settings = differences(list(runs))
    if as_json:
        values = [run.to_json() | {"settings": own} for run, own in zip(found, settings, strict=True)]
        print(json.dumps(values, indent=1, default=str))
    else:
        screen = Screen()
        _show_beside(screen, found) if len(runs) <= MOST_BESIDE else _show_table(screen, found, grouped=False)
        _show_settings(screen, names, settings)
    if as_json and plot is None:
        return
    path = plot or default_plot(runs)
    path.parent.mkdir(parents=True, exist_ok=True) if plot is None else None
    with work("drawing the losses"):
        metrics = {run.name: Run.open(run.folder).metrics() for run in found}
        draw_losses(metrics, path, title=" · ".join(names[:4]), figures={run.name: run.figures for run in found})
    if not as_json:
        screen.line()
        screen.done(f"wrote {path}")


def default_plot(runs: Sequence[Path]) -> Path:
    """Return where the plot of a comparison goes: a folder beside the first run, by the names of the runs."""
    names = [run.resolve().name for run in runs]
    name = "-and-".join(names) if len(names) <= 3 else f"{names[0]}-and-{len(names) - 1}-more"
    return runs[0].parent / "comparisons" / f"{name[:120]}.png"


def _show_table(screen: Screen, runs: Sequence[RunSummary], *, grouped: bool) -> None:
    """Print runs as a table, what is left out of it, and what is wrong with damaged ones."""
    from instil.reporting.run_table import run_table
    from instil.units import counted

    intact = [run for run in runs if not run.problem]
    if intact:
        table = run_table(intact, width=screen.width, grouped=grouped)
        _print_table(screen, table)
        _explain(screen, table)
    damaged = [run for run in runs if run.problem]
    if damaged:
        problems = "\n".join(str(run.problem) for run in damaged)
        screen.warn(f"{counted(len(damaged), 'run')} cannot be read:\n{problems}")


def _explain(screen: Screen, table: RunTable) -> None:
    """Print below a table what it leaves out, and what its marks mean."""
    from instil.reporting.run_table import NOT_FINISHED, RUNNING

    states = {run.state for run in table.rows if run}
    if table.shared:
        screen.note(f"most runs: {table.shared}")
    if all(column.name != "state" for column in table.columns):
        marks = [("not finished", NOT_FINISHED), ("running", RUNNING)]
        if shown := [f"{mark} {state}" for state, mark in marks if state in states]:
            screen.note(", ".join(shown))
    if table.left_out:
        few, more = table.left_out[:4], len(table.left_out) - 4
        screen.note(f"not shown at this width: {', '.join(few)}{f', {more} more' if more > 0 else ''}; --json has all")
    if table.is_cut:
        screen.note("… is cut at this width: --json has everything, instil runs compare A B shows settings whole")


def _print_table(screen: Screen, table: RunTable) -> None:
    from instil.screen import Cell, Column

    lowest = _lowest([run for run in table.rows if run])

    def cell(name: str, text: str, run: RunSummary | None) -> Cell:
        if run is None:
            return Cell(text, "quiet")
        if name == "state":
            return Cell(text, "warning")
        if name == "held-out":
            return Cell(text, "good" if run.folder in lowest else "figure")
        return Cell(text)

    rows = [
        [cell(column.name, column.cells[number], run) for column in table.columns]
        for number, run in enumerate(table.rows)
    ]
    screen.table([Column(column.name, number=column.number) for column in table.columns], rows)


def _lowest(runs: Sequence[RunSummary]) -> set[Path]:
    """Return the runs with the lowest held-out loss, if more than one has any and all measure the same."""
    if len({run.objective for run in runs}) > 1:
        return set()
    losses = {run.folder: run.heldout_loss for run in runs if run.heldout_loss == run.heldout_loss and run.heldout_loss}
    return {folder for folder, loss in losses.items() if loss == min(losses.values())} if len(losses) > 1 else set()


def _show_beside(screen: Screen, runs: Sequence[RunSummary]) -> None:
    """Print the results of few runs, a run a column."""
    from instil.evaluation.meanings import label_of
    from instil.reporting.run_table import number, short_date
    from instil.screen import Cell, Column
    from instil.training.records.run_figures import figure_words
    from instil.units import byte_size, duration, share_words

    lowest = _lowest(runs)

    def at(loss: float | None, step: int | None) -> str:
        return "" if loss is None else f"{number(loss)} after step {step}"

    rows: list[list[str | Cell]] = [
        ["state", *(run.state for run in runs)],
        ["steps", *(f"{run.steps:,}" for run in runs)],
        ["loss", *(number(run.loss) for run in runs)],
        ["held-out", *(Cell(at(r.heldout_loss, r.heldout_step), "good" if r.folder in lowest else "") for r in runs)],
        ["best", *(at(run.best_heldout_loss, run.best_step) for run in runs)],
        ["time in steps", *(duration(run.seconds) for run in runs)],
        ["size", *(byte_size(run.size) for run in runs)],
        ["date", *(short_date(run.date) for run in runs)],
    ]
    if any(run.heldout_accuracy is not None for run in runs):
        rows.insert(4, ["won", *(share_words(run.heldout_accuracy) for run in runs)])
    for name in dict.fromkeys(name for run in runs for name in run.figures):
        rows.append([label_of(name), *(figure_words(run.figures.get(name), interval=True) for run in runs)])
    screen.table([Column("", number=False), *(Column(run.name, number=True) for run in runs)], rows)


def _show_settings(screen: Screen, names: Sequence[str], settings: Sequence[dict[str, object]]) -> None:
    """Print the settings in which runs differ."""
    from instil.screen import Column
    from instil.training.records.run_settings import short_value

    screen.heading("settings that differ")
    differing = list(dict.fromkeys(name for own in settings for name in own))
    if not differing:
        screen.line("none")
        return
    rows = [[name, *(short_value(own.get(name), most=40) for own in settings)] for name in differing]
    screen.table([Column("setting"), *(Column(name) for name in names)], rows)
