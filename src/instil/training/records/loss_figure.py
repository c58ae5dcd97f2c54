"""The curve of a run: training and held-out loss over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instil.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_loss(metrics: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw training and held-out loss over the steps; the file is replaced in one move."""
    with atomic_file(path) as file:
        loss_figure(metrics).savefig(file, format=path.suffix.removeprefix(".").lower() or "png")


def loss_figure(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """Return a figure of training and held-out loss over the steps. The caller's matplotlib backend stays as it is."""
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(7, 4), dpi=110)
    sheet.subplots_adjust(left=0.09, right=0.98, bottom=0.12, top=0.97)  # a layout engine would draw everything twice
    axes = sheet.subplots()
    trained = [(line["step"], line["loss"]) for line in metrics if line.get("loss") is not None]
    heldout = [(line["step"], line["heldout_loss"]) for line in metrics if line.get("heldout_loss") is not None]
    if trained:
        axes.plot(*zip(*trained, strict=True), linewidth=0.6, alpha=0.35, color="tab:blue")
        axes.plot(*zip(*_smooth(trained), strict=True), linewidth=1.6, color="tab:blue", label="training")
    if heldout:
        axes.plot(*zip(*heldout, strict=True), marker="o", markersize=3, color="tab:orange", label="held-out")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.25)
    if trained or heldout:
        axes.legend()
    return sheet


def _smooth(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Average each point with the few before it."""
    width = max(1, len(points) // 50)
    values = [value for _, value in points]
    return [
        (step, sum(values[max(0, place - width + 1) : place + 1]) / len(values[max(0, place - width + 1) : place + 1]))
        for place, (step, _) in enumerate(points)
    ]
