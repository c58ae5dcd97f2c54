"""The curve of a run: training and held-out loss over the steps, and the rules for every picture of losses.

Notebooks and pages draw it as SVG here; `loss.png` follows the same rules:

- Every step's loss is drawn thin. Over it is the mean of the steps around it, once there are enough.
- A held-out loss is a dot. Two of them are joined only if at most a tenth of the axis lies between them.
- The axis is logarithmic where a linear one would press most of the curve to its lower edge (`wants_log`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate

from instil.units import loss_words
from instil.views.chart import COLOURS, WIDE, Line, Point, chart_svg

MOST_POINTS = 500
"""Points of one line; neighbours are averaged beyond that."""
JOINED = 0.1
"""Largest part of the axis between two held-out losses that a line joins."""
_MOST_DOTS = 60
"""Held-out losses that have a dot each; more of them are a line alone."""
_LOG_FROM = 3.0
"""Ratio of the highest to the lowest loss from which an axis may be logarithmic."""
_LOG_TO = 1e9
"""Ratio beyond which the lowest loss is no loss any more, such as that of a run that has learned its rows by heart."""
_PRESSED = 0.25
"""Part of a linear axis that is too little for the losses of the second half."""


def window(num_points: int) -> int:
    """Return over how many points `smooth` averages: a fiftieth of them, and at least five where there are forty.

    Example:
        >>> [window(n) for n in (8, 30, 50, 200, 5000)]
        [1, 3, 5, 5, 101]
    """
    return 2 * max(num_points // 100, min(num_points // 20, 2)) + 1


def smooth(points: Sequence[Point]) -> list[Point]:
    """Average each point with its neighbours on both sides; the last ones with those before them.

    Why: a mean of the points before would lag behind the first, steep part of a curve.

    Example:
        >>> [round(value, 2) for _, value in smooth([(step, float(step % 2)) for step in range(30)])[:4]]
        [0.0, 0.33, 0.67, 0.33]
    """
    half = window(len(points)) // 2
    sums = [0.0, *accumulate(value for _, value in points)]
    spans = [(max(0, at - half), min(len(points), at + min(half, at) + 1)) for at in range(len(points))]
    return [
        (step, (sums[end] - sums[start]) / (end - start)) for (start, end), (step, _) in zip(spans, points, strict=True)
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


def wants_log(*curves: Sequence[Point]) -> bool:
    """Return whether a logarithmic axis shows losses better than a linear one.

    It does if all are above 0, the highest is at least three times the lowest, and the losses of the second half of the
    steps would fill less than a quarter of a linear axis.

    Example:
        >>> wants_log([(1, 10.0), (2, 5.0), (3, 2.5), (4, 2.4)]), wants_log([(1, 3.0), (2, 2.0), (3, 1.5), (4, 0.9)])
        (True, False)
    """
    points = [point for curve in curves for point in curve]
    values = [value for _, value in points]
    if not values or min(values) <= 0 or not _LOG_FROM <= max(values) / min(values) <= _LOG_TO:
        return False
    half = max(step for step, _ in points) / 2
    later = [value for step, value in points if step > half]
    return max(later) - min(values) < _PRESSED * (max(values) - min(values))


def loss_svg(
    trained: Sequence[Point], heldout: Sequence[Point], *, num_steps: int | None = None, width: float = WIDE
) -> str:
    """Return the curve.

    Args:
        trained: Step and training loss, in order.
        heldout: Step and held-out loss, in order.
        num_steps: Steps of the whole run, as far as the axis goes. Default: the last step there is.
        width: Width of the chart, `chart.WIDE` or `chart.NARROW`.
    """
    trained, heldout = finite(trained), finite(heldout)
    last = max([step for step, _ in (*trained, *heldout)] + [float(num_steps or 1)])
    mean, num_averaged = smooth(trained), window(len(trained))
    lines = []
    if num_averaged > 1:
        lines.append(Line("training, each step", thinned(trained), COLOURS[0], width=0.8, opacity=0.4))
    name = f"mean of {num_averaged} steps" if num_averaged > 1 else "training"
    lines.append(Line(name if trained else "", thinned(mean), COLOURS[0]))
    lines.append(heldout_line("held-out", heldout, COLOURS[1], last=last))
    is_log = wants_log(mean, heldout) and all(value > 0 for _, value in trained)
    return chart_svg(lines, axis="loss", label=describe(trained, heldout), last=last, is_log=is_log, width=width)


def heldout_line(name: str, points: Sequence[Point], colour: str, *, last: float) -> Line:
    """Return held-out losses as a line of a chart whose axis goes to the step `last`."""
    few = len(points) <= _MOST_DOTS
    return Line(name if points else "", thinned(points), colour, width=1.4, dots=few, reach=JOINED * last)


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
            lines.append(
                f"{name} {loss_words(start)} to {loss_words(end)}" if len(points) > 1 else f"{name} {loss_words(end)}"
            )
    return f"Loss: {', '.join(lines)}"
