"""The curve of a run: training and held-out loss over the steps."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instil.files import atomic_file
from instil.views.curve import Point, finite, smooth

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_loss(metrics: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw training and held-out loss over the steps; the file is replaced in one move."""
    with atomic_file(path) as file:
        loss_figure(metrics).savefig(file, format=path.suffix.removeprefix(".").lower() or "png")


def loss_figure(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """Return a figure of training and held-out loss over the steps. The caller's matplotlib backend stays as it is."""
    sheet = _shown_figure(figsize=(7, 4), dpi=110)
    sheet.subplots_adjust(left=0.09, right=0.98, bottom=0.12, top=0.97)  # a layout engine would draw everything twice
    axes = sheet.subplots()
    trained, heldout = points_of(metrics, "loss"), points_of(metrics, "heldout_loss")
    if trained:
        axes.plot(*zip(*trained, strict=True), linewidth=0.6, alpha=0.35, color="tab:blue")
        axes.plot(*zip(*smooth(trained), strict=True), linewidth=1.6, color="tab:blue", label="training")
    if heldout:
        axes.plot(*zip(*heldout, strict=True), marker="o", markersize=3, color="tab:orange", label="held-out")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.25)
    if trained or heldout:
        axes.legend()
    return sheet


def _shown_figure(**settings: Any) -> Figure:
    """Return an empty figure that a notebook shows as a picture.

    Why: a notebook shows a plain Figure as one line of text until pyplot is imported, which would choose a backend.
    """
    from matplotlib.figure import Figure

    class ShownFigure(Figure):
        def _repr_png_(self) -> bytes:
            picture = io.BytesIO()
            self.savefig(picture, format="png")
            return picture.getvalue()

    return ShownFigure(**settings)


def points_of(metrics: Sequence[Mapping[str, Any]], name: str) -> list[Point]:
    """Return step and value of a metric where it is a number; a loss that is not finite has no place on a curve.

    Example:
        >>> points_of([{"step": 1, "loss": 2.0}, {"step": 1, "heldout_loss": 3.0}, {"step": 2, "loss": None}], "loss")
        [(1, 2.0)]
    """
    pairs = [(line.get("step"), line.get(name)) for line in metrics]
    return finite(
        (step, value)
        for step, value in pairs
        if isinstance(step, int) and isinstance(value, int | float) and not isinstance(value, bool)
    )
