"""``instil runs``: list runs; ``instil runs compare A B`` compares two and draws a plot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App

if TYPE_CHECKING:
    from rich.table import Table

    from instil.training.records.runs import Figure

app = App(name="runs", help_format="plaintext")
MOST_DIFFERENCES = 8


@app.default
def list_runs(folder: Path = Path("runs")) -> None:
    """List the runs in a folder, oldest first: results, size, and the settings in which they differ.

    A damaged run is named below the table, with the reason.

    Args:
        folder: Folder that holds run folders, or a run folder.
    """
    from rich.table import Table

    from instil.errors import RunError
    from instil.training.records.runs import differences, find_runs, summarise
    from instil.units import byte_size, duration

    folders = find_runs(folder)
    if not folders:
        raise RunError(
            f"{folder}: no runs here. Expected a folder with run folders. Name another folder, or train a run first."
        )
    table = Table(
        "run", "model", "state", "steps", "loss", "held-out", "evaluation", "time", "size", "differs in", box=None
    )
    runs, damaged = [], []
    for run_folder in folders:
        try:
            runs.append(summarise(run_folder))
        except RunError as error:
            damaged.append(str(error))
    for run, differing in zip(runs, differences([run.folder for run in runs]), strict=True):
        table.add_row(
            str(run.folder),
            run.model,
            run.state,
            str(run.steps),
            _number(run.loss),
            _number(run.heldout_loss),
            _figures(run.figures),
            duration(run.seconds),
            byte_size(run.size),
            _settings(differing),
        )
    if runs:
        _show(table)
    for line in damaged:
        print(line)


@app.command
def compare(first: Path, second: Path, *, plot: Path | None = None) -> None:
    """Show the results of two runs and the settings in which they differ, and draw their losses and figures.

    Args:
        first: A run folder.
        second: Another run folder.
        plot: PNG file to write. Default: FIRST-and-SECOND.png in the current folder.
    """
    from rich.table import Table

    from instil.training.records.plots import draw_losses
    from instil.training.records.run_folder import Run
    from instil.training.records.runs import differing_settings, summarise
    from instil.units import byte_size

    one, other = summarise(first), summarise(second)
    table = Table("", str(first), str(second), box=None)
    for name, left, right in (
        ("steps", one.steps, other.steps),
        ("loss", _number(one.loss), _number(other.loss)),
        ("held-out loss", _number(one.heldout_loss), _number(other.heldout_loss)),
        ("training seconds", round(one.seconds, 1), round(other.seconds, 1)),
        ("size", byte_size(one.size), byte_size(other.size)),
    ):
        table.add_row(name, str(left), str(right))
    for name in dict.fromkeys((*one.figures, *other.figures)):
        table.add_row(name, _figure(one.figures.get(name)), _figure(other.figures.get(name)))
    for setting, left, right in differing_settings(first, second):
        table.add_row(setting, str(left), str(right))
    _show(table)
    path = plot or Path(f"{first.resolve().name}-and-{second.resolve().name}.png")
    runs = {str(run.folder): run for run in (one, other)}
    metrics = {name: Run.open(run.folder).metrics() for name, run in runs.items()}
    draw_losses(metrics, path, figures={name: run.figures for name, run in runs.items()})
    print(f"wrote {path}")


def _show(table: Table) -> None:
    """Print a table. In a file or a pipe its lines are not wrapped."""
    from rich.console import Console

    console = Console()
    console.print(table) if console.is_terminal else Console(width=400).print(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _figure(figure: Figure | None) -> str:
    return "" if figure is None else f"{figure.value:.3g} [{figure.low:.3g}, {figure.high:.3g}] n={figure.n}"


def _figures(figures: Mapping[str, Figure]) -> str:
    return "\n".join(f"{name} {figure.value:.3g} n={figure.n}" for name, figure in figures.items())


def _settings(values: Mapping[str, Any]) -> str:
    lines = [f"{name} {value}" for name, value in values.items() if name != "model.name"]
    more = [f"… and {len(lines) - MOST_DIFFERENCES} more"] if len(lines) > MOST_DIFFERENCES else []
    return "\n".join([*lines[:MOST_DIFFERENCES], *more])
