"""``instil runs``: list runs; ``instil runs compare A B`` sets two side by side."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

app = App(name="runs", help="List and compare runs.", help_format="plaintext")


@app.default
def list_runs(folder: Path = Path("runs")) -> None:
    """List the runs in a folder, oldest first.

    Args:
        folder: Folder that holds run folders, or a run folder.
    """
    from rich.console import Console
    from rich.table import Table

    from instil.training.comparison import find_runs, summarise
    from instil.training.telemetry import minutes

    found = [summarise(path) for path in find_runs(folder)]
    if not found:
        print(f"{folder}: no runs here")
        return
    table = Table("run", "model", "state", "steps", "loss", "held-out loss", "training time", box=None)
    for run in found:
        table.add_row(
            str(run.folder),
            run.model,
            run.state,
            str(run.steps),
            _number(run.loss),
            _number(run.heldout_loss),
            minutes(run.seconds),
        )
    Console().print(table)


@app.command
def compare(first: Path, second: Path) -> None:
    """Show what two runs reached and in which settings they differ.

    Args:
        first: A run folder.
        second: Another one.
    """
    from rich.console import Console
    from rich.table import Table

    from instil.training.comparison import differing_settings, summarise

    one, other = summarise(first), summarise(second)
    table = Table("", str(first), str(second), box=None)
    for name, left, right in (
        ("steps", one.steps, other.steps),
        ("loss", _number(one.loss), _number(other.loss)),
        ("held-out loss", _number(one.heldout_loss), _number(other.heldout_loss)),
        ("training seconds", round(one.seconds, 1), round(other.seconds, 1)),
    ):
        table.add_row(name, str(left), str(right))
    for setting, left, right in differing_settings(first, second):
        table.add_row(setting, str(left), str(right))
    Console().print(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
