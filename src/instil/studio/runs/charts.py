"""Which curves a run page has, and what each of them draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from instil.evaluation.meanings import label_of
from instil.studio.lttb import Point
from instil.studio.runs.curves import SMOOTH, SPEED, Curves

Words = Callable[[str], str]
"""From a key below ``run.`` to the text of the reader's language."""


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a chart.

    Attributes:
        metric: Name in the metrics, or `SPEED` or `SMOOTH`.
        name: Key of its name below ``run.``.
        kind: How it is drawn; ``points`` are measured at evaluations.
    """

    metric: str
    name: str
    kind: Literal["line", "faint", "points"] = "line"


CHARTS: dict[str, tuple[Series, ...]] = {
    "loss": (
        Series("loss", "line_raw", "faint"),
        Series(SMOOTH, "line_smooth"),
        Series("heldout_loss", "line_heldout", "points"),
    ),
    "won": (Series("accuracy", "line_training", "faint"), Series("heldout_accuracy", "line_heldout", "points")),
    "margin": (Series("margin", "line_training", "faint"), Series("heldout_margin", "line_heldout", "points")),
    "rewards": (
        Series("chosen_reward", "line_chosen"),
        Series("rejected_reward", "line_rejected"),
        Series("heldout_chosen_reward", "line_chosen_heldout", "points"),
        Series("heldout_rejected_reward", "line_rejected_heldout", "points"),
    ),
    "drift": (Series("drift", "line_training", "faint"), Series("heldout_drift", "line_heldout", "points")),
    "learning_rate": (Series("learning_rate", "chart_learning_rate"),),
    "gradient_norm": (Series("gradient_norm", "chart_gradient_norm"),),
    "speed": (Series(SPEED, "chart_speed"),),
    "memory": (Series("memory_mb", "chart_memory"),),
}
"""Charts and their lines, in the order of the page. The figures of tasks are one more."""


def charts_of(curves: Curves) -> list[str]:
    """Return the charts that there are points for; always that of the loss, which says that there are none yet."""
    names = set(curves.names())
    found = [chart for chart, lines in CHARTS.items() if chart == "loss" or any(line.metric in names for line in lines)]
    return [*found, *(["tasks"] if "tasks" in names else [])]


def chart_view(
    curves: Curves, chart: str, words: Words, *, start: float = -math.inf, end: float = math.inf
) -> dict[str, Any]:
    """Return a chart as `chart.js` draws it.

    Args:
        curves: The run's metrics, read as far as there was time.
        chart: A key of `CHARTS`, or ``tasks``.
        words: The texts.
        start: First step to draw.
        end: Last step to draw.

    Returns:
        The lines; ``more`` if the file was not read to its end, so that the page asks again.
    """
    series: list[tuple[str, str, Sequence[Point]]]
    if chart == "tasks":
        series = [
            (label_of(name), "points", [point for point in points if start <= point[0] <= end])
            for name, points in sorted(curves.tasks().items(), key=lambda entry: entry[0].startswith("behaviour."))
        ]
    else:
        series = [
            (
                words(line.name),
                line.kind,
                (curves.heldout if line.kind == "points" else curves.line)(line.metric, start=start, end=end),
            )
            for line in CHARTS[chart]
        ]
    return {
        "x": words("step"),
        "y": words(f"unit_{chart}"),
        "more": not curves.is_whole,
        "series": [{"name": name, "kind": kind, "points": points} for name, kind, points in series if points],
    }


def compared_view(
    runs: Sequence[tuple[str, Curves]],
    chart: Literal["loss", "heldout"],
    words: Words,
    *,
    start: float = -math.inf,
    end: float = math.inf,
) -> dict[str, Any]:
    """Return the losses of several runs in one chart: smoothed ones of the steps, or those of the held-out examples."""
    lines = [
        (
            name,
            curves.line(SMOOTH, start=start, end=end)
            if chart == "loss"
            else curves.heldout("heldout_loss", start=start, end=end),
        )
        for name, curves in runs
    ]
    return {
        "x": words("step"),
        "y": words("unit_loss"),
        "more": not all(curves.is_whole for _, curves in runs),
        "series": [
            {"name": name, "kind": "line" if chart == "loss" else "points", "points": points}
            for name, points in lines
            if points
        ],
    }
