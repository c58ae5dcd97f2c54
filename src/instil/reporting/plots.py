"""Draw several runs into one PNG: their losses over the steps, and the figures of `instil evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instil.errors import RunError
from instil.evaluation.meanings import label_of
from instil.refused_writes import refused_writes
from instil.training.records.loss_figure import (
    Metrics,
    colours_of,
    finish_axes,
    fonts,
    plain_text,
    plot_heldout,
    plot_points,
    points_of,
    save_figure,
)
from instil.views.curve import smooth

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Sheet

    from instil.training.records.run_figures import Figure

_MOST_FIGURES = 12
"""Figures of an evaluation that the picture shows."""
_MOST_BARS = 36


def draw_losses(
    runs: Mapping[str, Metrics],
    path: Path,
    *,
    title: str = "",
    figures: Mapping[str, Mapping[str, Figure]] | None = None,
) -> None:
    """Draw runs into one picture: training and held-out losses, and the evaluation figures that all of them have.

    Args:
        runs: The metrics of each run under its name.
        path: The PNG to write.
        title: What the runs have in common.
        figures: The evaluation figures of each run, under the same names.

    Raises:
        RunError: If the picture cannot be written.
    """
    sheet = losses_figure(runs, title=title, figures=figures or {})
    with refused_writes(path, raises=RunError, otherwise="choose another --plot"):
        save_figure(sheet, path)


def losses_figure(runs: Mapping[str, Metrics], *, title: str, figures: Mapping[str, Mapping[str, Figure]]) -> Sheet:
    """Return the picture that `draw_losses` writes."""
    from matplotlib.figure import Figure as Sheet

    names = shared_figures([figures.get(run, {}) for run in runs])[
        : max(1, min(_MOST_FIGURES, _MOST_BARS // len(runs)))
    ]
    sheet = Sheet(figsize=(17 if names else 12, 4.8), dpi=110, layout="constrained")
    panels = sheet.subplots(1, 3 if names else 2)
    colours = dict(zip(runs, colours_of(len(runs)), strict=True))
    trained = {run: smooth(points_of(metrics, "loss")) for run, metrics in runs.items()}
    heldout = {run: points_of(metrics, "heldout_loss") for run, metrics in runs.items()}
    last = max((point[0] for points in (*trained.values(), *heldout.values()) for point in points), default=1)
    for run, metrics in runs.items():
        few = len(runs) <= 4  # the thin lines of more runs hide each other
        raw = points_of(metrics, "loss") if few else []
        plot_points(panels[0], raw, colour=colours[run], linewidth=0.5, alpha=0.3, label="_each step")
        plot_points(panels[0], trained[run], colour=colours[run], linewidth=1.4, label=plain_text(run, 32))
        plot_heldout(panels[1], heldout[run], last=last, colour=colours[run], label=plain_text(run, 32))
    finish_axes(panels[0], title="training loss", name="loss", curves=tuple(trained.values()))
    finish_axes(panels[1], title="held-out loss", name="loss", curves=tuple(heldout.values()))
    panels[1].set_xlim(panels[0].get_xlim())
    for panel in panels[:2]:
        if not panel.lines:
            panel.text(0.5, 0.5, "none", ha="center", va="center", transform=panel.transAxes)
    if names:
        _draw_figures(panels[2], [(run, figures[run], colours[run]) for run in runs], names)
    if title:
        sheet.suptitle(plain_text(title), fontsize="medium", family=fonts())
    return sheet


def shared_figures(runs: Sequence[Mapping[str, Figure]]) -> list[str]:
    """Return the names of the evaluation figures between 0 and 1 that every run has."""
    first = runs[0] if runs else {}
    return [name for name in first if all(name in figures and 0 <= figures[name].value <= 1 for figures in runs)]


def _draw_figures(panel: Any, runs: Sequence[tuple[str, Mapping[str, Figure], Any]], names: Sequence[str]) -> None:
    height = 0.8 / len(runs)
    for number, (_, figures, colour) in enumerate(runs):
        shown = [figures[name] for name in names]
        places = [at + height * number for at in range(len(names))]
        values = [figure.value for figure in shown]
        panel.barh(places, values, height=0.9 * height, color=colour, alpha=0.75)
        panel.errorbar(values, places, xerr=_error_bars(shown), fmt="none", ecolor="black", capsize=2)
    middle = height * (len(runs) - 1) / 2
    panel.set_yticks(
        [at + middle for at in range(len(names))],
        [label_of(name).replace(": ", "\n", 1) for name in names],
        fontsize="small",
    )
    panel.set(xlim=(0, 1))
    panel.set_title("evaluation, 95% intervals", fontsize="medium", loc="left")
    panel.grid(alpha=0.25, axis="x")
    panel.invert_yaxis()


def _error_bars(figures: Sequence[Figure]) -> list[list[float]]:
    return [
        [max(0.0, figure.value - figure.low) for figure in figures],
        [max(0.0, figure.high - figure.value) for figure in figures],
    ]
