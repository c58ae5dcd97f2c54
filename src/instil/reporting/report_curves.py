"""The curves of a report: losses, learning rate, gradient norm, speed, memory, and figures of tasks over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from instil.evaluation.meanings import label_of, meaning_of
from instil.training.records.loss_figure import points_of
from instil.views.chart import COLOURS, NARROW, WIDE, Line, Point, chart_svg
from instil.views.curve import JOINED, finite, loss_svg, smooth, thinned, window
from instil.views.html import escaped
from instil.views.page_parts import pairs

Metrics = Sequence[Mapping[str, Any]]
_MOST_TASKS = 8


def curves(metrics: Metrics) -> str:
    """Return every curve that the metrics have points for, as HTML."""
    trained, heldout = points_of(metrics, "loss"), points_of(metrics, "heldout_loss")
    parts = _wide_figure("Loss", *(loss_svg(trained, heldout, width=width) for width in (WIDE, NARROW)))
    for title, axis, points in (
        ("Learning rate", "learning rate", points_of(metrics, "learning_rate")),
        ("Gradient norm", "norm", points_of(metrics, "gradient_norm")),
        ("Speed", "tokens a second", speeds(metrics)),
        ("Memory", "MB", points_of(metrics, "memory_mb")),
    ):
        drawn = _curve(points, axis=axis, title=title, is_smoothed=title in ("Gradient norm", "Speed"))
        parts += [_figure(title, drawn)] if drawn else []
    for title, drawn in (("Pairs won", won_svg(metrics)), ("Rewards", rewards_svg(metrics))):
        parts += [_figure(title, drawn)] if drawn else []
    parts += _wide_figure("Tasks during training", *(task_svg(metrics, width=width) for width in (WIDE, NARROW)))
    meanings = pairs(
        [(label_of(name), meaning) for name in task_names(metrics) if (meaning := meaning_of(*name.split(".", 1)))]
    )
    if meanings:
        parts.append(f'<div class="wide">{meanings}</div>')
    return f'<div class="charts">{"".join(parts)}</div>' if parts else ""


def speeds(metrics: Metrics) -> list[Point]:
    """Return tokens a second of each step.

    Example:
        >>> speeds([{"step": 1, "tokens": 500, "seconds": {"total": 2.0}}, {"step": 1, "heldout_loss": 1.0}])
        [(1, 250.0)]
    """
    found = []
    for line in metrics:
        seconds = line.get("seconds")
        total = seconds.get("total") if isinstance(seconds, Mapping) else None
        tokens, step = line.get("tokens"), line.get("step")
        if isinstance(total, int | float) and isinstance(tokens, int) and isinstance(step, int) and total > 0:
            found.append((step, tokens / total))
    return finite(found)


def task_names(metrics: Metrics) -> list[str]:
    """Return the figures that were measured during training, as ``task.figure``; behaviour comes last.

    Example:
        >>> task_names([{"step": 1, "tasks": {"behaviour.stops": {"value": 1.0}, "numeric.numeric": {"value": 0.5}}}])
        ['numeric.numeric', 'behaviour.stops']
    """
    found = [line["tasks"] for line in metrics if isinstance(line.get("tasks"), Mapping)]
    names = dict.fromkeys(str(name) for figures in found for name in figures if "." in str(name))
    return sorted(names, key=lambda name: name.startswith("behaviour."))


def won_svg(metrics: Metrics) -> str:
    """Return the share of pairs that are won in each step and on held-out pairs; empty for a run without pairs."""
    trained, heldout = (
        [(step, 100 * value) for step, value in points_of(metrics, name)] for name in ("accuracy", "heldout_accuracy")
    )
    lines = [
        Line("training", thinned(smooth(trained)), COLOURS[0], width=1.6),
        Line("held-out", heldout, COLOURS[1], width=1.2, dots=True),
    ]
    last = (heldout or trained or [(0, 0.0)])[-1][1]
    return chart_svg(
        [line for line in lines if line.points], axis="%", label=f"Pairs won: {last:.1f}% at the end", width=NARROW
    )


def rewards_svg(metrics: Metrics) -> str:
    """Return the mean rewards of chosen and rejected answers in each step; empty for a run without pairs."""
    lines = [
        Line(side, thinned(smooth(points_of(metrics, f"{side}_reward"))), colour, width=1.6)
        for side, colour in zip(("chosen", "rejected"), COLOURS, strict=False)
    ]
    lines = [line for line in lines if line.points]
    words = ", ".join(f"{line.name} {line.points[-1][1]:.3g}" for line in lines)
    return chart_svg(lines, axis="reward", label=f"Rewards at the end: {words}", width=NARROW)


def task_svg(metrics: Metrics, *, width: float = WIDE) -> str:
    """Return the shares that tasks had at each evaluation; behaviour, which most models have soon, comes last."""
    by_name: dict[str, list[tuple[float, float | None]]] = {}
    for line in metrics:
        tasks = line.get("tasks")
        for name, figure in (tasks if isinstance(tasks, Mapping) else {}).items():
            value = figure.get("value") if isinstance(figure, Mapping) else None
            if isinstance(value, int | float) and 0 <= value <= 1 and isinstance(line.get("step"), int):
                by_name.setdefault(str(name), []).append((line["step"], 100.0 * value))
    names = sorted(by_name, key=lambda name: name.startswith("behaviour."))[:_MOST_TASKS]
    last = max((step for points in by_name.values() for step, _ in points), default=1.0)
    lines = [
        Line(name.rpartition(".")[2], finite(by_name[name]), colour, width=1.2, dots=True, reach=last * JOINED)
        for name, colour in zip(names, COLOURS, strict=False)
    ]
    words = ", ".join(f"{line.name} {line.points[-1][1]:.1f}%" for line in lines if line.points)
    return chart_svg(lines, axis="%", label=f"Tasks at the last evaluation: {words}", width=width)


def _curve(points: Sequence[Point], *, axis: str, title: str, is_smoothed: bool) -> str:
    if not points:
        return ""
    lines = []
    if is_smoothed and window(len(points)) > 1:
        lines.append(Line("", thinned(points), COLOURS[0], width=0.8, opacity=0.4))
    shown = smooth(points) if is_smoothed else points
    lines.append(Line("", thinned(shown), COLOURS[0], width=1.6))
    label = f"{title}: {points[0][1]:.4g} at step {points[0][0]:g}, {points[-1][1]:.4g} at step {points[-1][0]:g}"
    return chart_svg(lines, axis=axis, label=label, width=NARROW)


def _figure(title: str, svg: str) -> str:
    return f'<figure class="chart"><figcaption>{escaped(title)}</figcaption>{svg}</figure>'


def _wide_figure(title: str, wide: str, narrow: str) -> list[str]:
    """Return a chart over the page, with another one for a narrow window, if there are points.

    Why: a picture that is scaled down has letters of half the size.
    """
    if not wide:
        return []
    drawn = f'<div class="in-wide">{wide}</div><div class="in-narrow">{narrow}</div>'
    return [f'<figure class="wide"><figcaption>{escaped(title)}</figcaption>{drawn}</figure>']
