"""Draw the losses of a run, or two runs side by side, into a PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from instil.errors import RunError
from instil.files import atomic_file
from instil.refused_writes import refused_writes
from instil.training.records.run_folder import Run
from instil.training.records.runs import Figure, RunSummary

COLOURS = ("tab:blue", "tab:orange")


def draw_comparison(runs: Sequence[RunSummary], path: Path) -> None:
    """Draw runs side by side: losses over the steps, and the figures of `instil evaluate` with their intervals.

    Raises:
        RunError: If the picture cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure as Sheet

    names = shared_figures(runs)
    sheet = Sheet(figsize=(13 if names else 9, 4), dpi=110, layout="constrained")
    panels = sheet.subplots(1, 3 if names else 2)
    for run, colour in zip(runs, COLOURS, strict=False):
        metrics = Run.open(run.folder).metrics()
        _draw_line(panels[0], metrics, "loss", str(run.folder), colour)
        _draw_line(panels[1], metrics, "heldout_loss", str(run.folder), colour, marker="o")
    for panel, title in zip(panels, ("training loss", "held-out loss"), strict=False):
        panel.set(title=title, xlabel="step")
        panel.grid(alpha=0.3)
        if panel.lines:
            panel.legend(fontsize="small")
        else:
            panel.text(0.5, 0.5, "none", ha="center", va="center", transform=panel.transAxes)
    if names:
        _draw_figures(panels[2], runs, names)
    with refused_writes(path, raises=RunError, otherwise="choose another --plot"), atomic_file(path) as file:
        sheet.savefig(file, format="png")


def shared_figures(runs: Sequence[RunSummary]) -> list[str]:
    """Return the names of the evaluation figures between 0 and 1 that every run has."""
    return [
        name
        for name in runs[0].figures
        if all(name in run.figures and 0 <= run.figures[name].value <= 1 for run in runs)
    ]


def _draw_line(
    panel: Any, metrics: Sequence[Mapping[str, Any]], name: str, label: str, colour: str, marker: str = ""
) -> None:
    points = [(line["step"], line[name]) for line in metrics if isinstance(line.get(name), int | float)]
    if points:
        panel.plot(*zip(*points, strict=True), label=label, color=colour, linewidth=1.2, marker=marker, markersize=3)


def _draw_figures(panel: Any, runs: Sequence[RunSummary], names: Sequence[str]) -> None:
    for number, (run, colour) in enumerate(zip(runs, COLOURS, strict=False)):
        figures = [run.figures[name] for name in names]
        places = [at + 0.4 * number for at in range(len(names))]
        values = [figure.value for figure in figures]
        panel.barh(places, values, height=0.36, color=colour, alpha=0.75, label=str(run.folder))
        panel.errorbar(values, places, xerr=_error_bars(figures), fmt="none", ecolor="black", capsize=2)
    panel.set_yticks([at + 0.2 for at in range(len(names))], names, fontsize="small")
    panel.set(title="evaluation, 95% intervals", xlim=(0, 1))
    panel.invert_yaxis()


def _error_bars(figures: Sequence[Figure]) -> list[list[float]]:
    return [
        [max(0.0, figure.value - figure.low) for figure in figures],
        [max(0.0, figure.high - figure.value) for figure in figures],
    ]
