"""The curve of a run as SVG: training and held-out loss over the steps.

Why: not matplotlib, whose picture takes a tenth of a second to draw and has a white background. This one is drawn twice
a second beside the training, and has the colours of the notebook.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate

from instil.views.html import escaped

Point = tuple[float, float]
"""A step and a loss."""
MOST_POINTS = 500
"""Points of one line; neighbours are averaged beyond that."""
_MOST_DOTS = 60
"""Held-out losses that have a dot each; more of them are a line alone."""
_WIDTH, _HEIGHT = 640.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 12.0, 22.0, 30.0
_TRAINED, _HELDOUT = "#2b8cc4", "#d98200"


def smooth(points: Sequence[Point]) -> list[Point]:
    """Average each point with the few before it: a fiftieth of all points.

    Example:
        >>> smooth([(step, float(step % 2)) for step in range(100)])[2:4]
        [(2, 0.5), (3, 0.5)]
    """
    width = max(1, len(points) // 50)
    sums = [0.0, *accumulate(value for _, value in points)]
    starts = [max(0, at - width) for at in range(1, len(points) + 1)]
    return [
        (step, (sums[at] - sums[start]) / (at - start))
        for at, (start, (step, _)) in enumerate(zip(starts, points, strict=True), start=1)
    ]


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """Average neighbours until there are at most `most` points.

    Example:
        >>> thinned([(1, 4.0), (2, 2.0), (3, 1.0)], most=2)
        [(1.5, 3.0), (3.0, 1.0)]
    """
    size = max(1, -(-len(points) // most))
    if size == 1:
        return list(points)
    groups = [points[at : at + size] for at in range(0, len(points), size)]
    return [(_mean(step for step, _ in group), _mean(value for _, value in group)) for group in groups]


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)


def finite(points: Iterable[tuple[float, float | None]]) -> list[Point]:
    """Return the points that have a place: no NaN, no infinity."""
    return [(step, value) for step, value in points if value is not None and math.isfinite(value)]


def loss_svg(trained: Sequence[Point], heldout: Sequence[Point], *, num_steps: int | None = None) -> str:
    """Return the curve.

    Args:
        trained: Step and training loss, in order.
        heldout: Step and held-out loss, in order.
        num_steps: Steps of the whole run, as far as the axis goes. Default: the last step there is.
    """
    trained, heldout = finite(trained), finite(heldout)
    if not trained and not heldout:
        return ""
    raw = thinned(trained)
    mean = thinned(smooth(trained))
    held = thinned(heldout)
    low, high = _range([value for _, value in (*raw, *heldout)])
    last = max([step for step, _ in (*trained, *heldout)] + [float(num_steps or 1)])

    def place(point: Point) -> tuple[float, float]:
        x = _LEFT + point[0] / last * (_WIDTH - _LEFT - _RIGHT)
        return x, _TOP + (high - point[1]) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = _axes(low, high, last)
    if len(trained) > 50:  # below that, the mean is the line itself
        parts.append(_path([place(point) for point in raw], _TRAINED, width=0.8, opacity=0.4))
    parts.append(_path([place(point) for point in mean], _TRAINED, width=1.8))
    parts.append(_path([place(point) for point in held], _HELDOUT, width=1.4))
    parts += [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{_HELDOUT}"/>'
        for x, y in map(place, held if len(held) <= _MOST_DOTS else [])
    ]
    if len(mean) == 1:
        x, y = place(mean[0])
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{_TRAINED}"/>')
    label = describe(trained, heldout)
    return (
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{escaped(label)}">'
        f"<title>{escaped(label)}</title>{''.join(parts)}</svg>"
    )


def describe(trained: Sequence[Point], heldout: Sequence[Point]) -> str:
    """Return what the curve shows, in words.

    Example:
        >>> describe([(1, 2.0), (9, 0.5)], [(9, 0.625)])
        'Loss: training 2.0000 to 0.5000, held-out 0.6250'
    """
    lines = []
    for name, points in (("training", trained), ("held-out", heldout)):
        if points:
            start, end = points[0][1], points[-1][1]
            lines.append(f"{name} {start:.4f} to {end:.4f}" if len(points) > 1 else f"{name} {end:.4f}")
    return f"Loss: {', '.join(lines)}"


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return (max(0.0, low - room) if low >= 0 else low - room), high + room


def _axes(low: float, high: float, last: float) -> list[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = []
    for value in _ticks(low, high, 5):
        y = _TOP + (high - value) / (high - low) * (bottom - _TOP)
        parts.append(_line(_LEFT, y, right, y) + _text(_LEFT - 6, y + 4, f"{value:g}", "end"))
    for value in _ticks(0.0, last, 6):
        x = _LEFT + value / last * (right - _LEFT)
        if value == int(value):
            parts.append(_text(x, bottom + 15, f"{int(value):,}", "middle"))
    parts.append(_text(right, _HEIGHT - 2, "step", "end") + _text(_LEFT, 12, "loss", "end"))
    for x, colour, name in ((_LEFT + 20, _TRAINED, "training"), (_LEFT + 110, _HELDOUT, "held-out")):
        parts.append(_path([(x, 8), (x + 16, 8)], colour, width=2) + _text(x + 21, 12, name, "start"))
    return parts


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Return round numbers between two numbers.

    Example:
        >>> _ticks(0.0, 400.0, 6)
        [0.0, 100.0, 200.0, 300.0, 400.0]
    """
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough)
    first = math.ceil(low / step)
    return [round(at * step, 12) for at in range(first, math.floor(high / step) + 1)]


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="currentColor" stroke-width="1" '
        'opacity="0.15"/>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="11" font-family="sans-serif" '
        f'fill="currentColor" opacity="0.7">{escaped(text)}</text>'
    )


def _path(points: Sequence[tuple[float, float]], colour: str, *, width: float, opacity: float = 1.0) -> str:
    if len(points) < 2:
        return ""
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return (
        f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round" '
        f'opacity="{opacity}"/>'
    )
