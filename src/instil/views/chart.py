"""A chart of lines over the steps as SVG, for notebooks and pages: axes, ticks, legend; linear or logarithmic.

Why: not matplotlib, whose picture takes a tenth of a second to draw and has a white background. This one is drawn twice
a second beside the training, and has the colours of what is around it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from instil.views.html import escaped

Point = tuple[float, float]
"""A step and a value."""
COLOURS = ("#2b8cc4", "#d98200", "#3a9a5b", "#b5569a", "#c8553d", "#7a6fd0", "#8a8d2b", "#5f7d8c")
"""Colours of lines, which read on a light and a dark ground."""
WIDE, NARROW = 640.0, 400.0
"""Widths of a chart: over a page, and in half of it or on a telephone. Letters have the size that they have there."""
_HEIGHT = 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 12.0, 24.0, 34.0
_MARGIN = 6.0
_ROW = 16.0
"""Height of a further row of the legend."""
_LETTER = 6.1
"""Width of a letter of the legend, for the place of the next entry."""


@dataclass(frozen=True, slots=True)
class Line:
    """What a chart draws in one colour.

    Attributes:
        name: Its entry in the legend; without one it has none.
        points: Steps and values, in order of the steps.
        colour: Its colour.
        width: Width of the line; 0 for dots alone.
        opacity: 1 for a line that hides what is behind it.
        dots: Whether every point has a dot.
        reach: Neighbours that are further apart than this many steps are not joined; None joins all.
    """

    name: str
    points: Sequence[Point]
    colour: str
    width: float = 1.8
    opacity: float = 1.0
    dots: bool = False
    reach: float | None = None

    def strokes(self) -> list[Sequence[Point]]:
        """Return the points that are joined, in groups.

        Example:
            >>> Line("", [(0, 3.0), (1, 2.0), (9, 1.0)], "#000", reach=2).strokes()
            [[(0, 3.0), (1, 2.0)], [(9, 1.0)]]
        """
        if self.reach is None:
            return [self.points]
        strokes: list[list[Point]] = []
        for point in self.points:
            if strokes and point[0] - strokes[-1][-1][0] <= self.reach:
                strokes[-1].append(point)
            else:
                strokes.append([point])
        return list(strokes)


@dataclass(frozen=True, slots=True)
class _Plane:
    """Where values are on the picture."""

    low: float
    high: float
    last: float
    is_log: bool
    width: float = WIDE
    top: float = _TOP

    @property
    def height(self) -> float:
        """Height of the picture: rows of the legend take nothing from the curves."""
        return _HEIGHT + self.top - _TOP

    def place(self, point: Point) -> Point:
        x = _LEFT + point[0] / self.last * (self.width - _LEFT - _RIGHT)
        low, high, value = (math.log(v) if self.is_log else v for v in (self.low, self.high, point[1]))
        return x, self.top + (high - value) / (high - low) * (self.height - self.top - _BOTTOM)


def chart_svg(
    lines: Sequence[Line],
    *,
    axis: str,
    label: str,
    last: float | None = None,
    is_log: bool = False,
    low_at: float = 0.0,
    width: float = WIDE,
) -> str:
    """Return a chart, or nothing if there is no point.

    Args:
        lines: What to draw; later ones are drawn over earlier ones. All values are finite.
        axis: Name of the values.
        label: What the chart shows, for those who do not see it.
        last: The last step of the axis. Default: that of the points.
        is_log: Whether the axis of the values is logarithmic. All values are above 0 then.
        low_at: Where the linear axis of values that are not negative may begin.
        width: `WIDE` or `NARROW`.
    """
    points = [point for line in lines for point in line.points]
    if not points:
        return ""
    low, high = _log_range(points) if is_log else _range([value for _, value in points], low_at)
    name = f"{axis} (logarithmic)" if is_log else axis
    legend, num_rows = _legend(lines, start=_LEFT + _LETTER * (len(name) - 6), width=width)
    last = max([1.0, float(last or 1), *(step for step, _ in points)])
    plane = _Plane(low, high, last, is_log, width, _TOP + _ROW * (num_rows - 1))
    drawn = [_line_svg(line, plane) for line in lines]
    body = "".join([*_axes(plane, name), *drawn, *legend])
    return (
        f'<svg viewBox="0 0 {width:g} {plane.height:g}" role="img" aria-label="{escaped(label)}">'
        f"<title>{escaped(label)}</title>{body}</svg>"
    )


def _range(values: Sequence[float], low_at: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return (max(low_at, low - room) if low >= 0 else low - room), high + room


def _log_range(points: Sequence[Point]) -> tuple[float, float]:
    values = [value for _, value in points]
    room = max(1.02, (max(values) / min(values)) ** 0.06)
    return min(values) / room, max(values) * room


def _line_svg(line: Line, plane: _Plane) -> str:
    parts = []
    if line.width:
        for stroke in line.strokes():
            parts.append(_path([plane.place(point) for point in stroke], line.colour, line.width, line.opacity))
    if line.dots or len(line.points) == 1:
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{line.colour}"/>'
            for x, y in map(plane.place, line.points)
        ]
    return "".join(parts)


def _axes(plane: _Plane, name: str) -> list[str]:
    right, bottom = plane.width - _RIGHT, plane.height - _BOTTOM
    parts = []
    for value in log_ticks(plane.low, plane.high) if plane.is_log else ticks(plane.low, plane.high, 5):
        y = plane.place((0.0, value))[1]
        parts.append(_rule(_LEFT, y, right, y) + _text(_LEFT - 6, y + 4, short(value), "end"))
    for value in ticks(0.0, plane.last, 6):
        x = _LEFT + value / plane.last * (right - _LEFT)
        if value == int(value):
            parts.append(_text(x, bottom + 15, f"{int(value):,}", "middle"))
    return [*parts, _text(right, plane.height - 5, "step", "end"), _text(_MARGIN, 12, name, "start")]


def _legend(lines: Sequence[Line], *, start: float, width: float) -> tuple[list[str], int]:
    """Return the entries of the legend, behind the name of the axis, and the number of rows that they take."""
    parts, x, row = [], max(start, _LEFT) + 24, 0
    for line in lines:
        if not line.name:
            continue
        length = 21 + _LETTER * len(line.name) + 18
        if x + length > width and x > _MARGIN:
            x, row = _MARGIN, row + 1
        y = 8 + _ROW * row
        sign = _path([(x, y), (x + 16, y)], line.colour, max(line.width, 0.8), line.opacity) if line.width else ""
        dot = f'<circle cx="{x + 8:.1f}" cy="{y:g}" r="2.6" fill="{line.colour}"/>' if line.dots else ""
        parts.append(sign + dot + _text(x + 21, y + 4, line.name, "start"))
        x += length
    return parts, row + 1


def ticks(low: float, high: float, most: int) -> list[float]:
    """Return round numbers between two numbers.

    Example:
        >>> ticks(0.0, 400.0, 6)
        [0.0, 100.0, 200.0, 300.0, 400.0]
    """
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough)
    first = math.ceil(low / step)
    return [round(at * step, 12) for at in range(first, math.floor(high / step) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers for a logarithmic axis: 1, 2, 3 and 5 of each power of ten; of many powers only 1.

    Example:
        >>> log_ticks(0.4, 9.0), log_ticks(3.1, 4.0)
        ([0.5, 1.0, 2.0, 3.0, 5.0], [3.2, 3.4, 3.6, 3.8, 4.0])
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    sizes = (1,) if last - first > 4 else (1, 2, 3, 5)
    every = max(1, (last - first) // 6)
    found = [size * 10.0**power for power in range(first, last + 1, every) for size in sizes]
    between = [float(f"{value:.3g}") for value in found if low <= value <= high]
    return between if len(between) > 1 else ticks(low, high, 5)


def short(value: float) -> str:
    """Return a number for an axis.

    Example:
        >>> short(0.5), short(20000.0), short(2e-05)
        ('0.5', '20k', '2e-05')
    """
    return f"{value / 1000:g}k" if 10_000 <= abs(value) < 1e6 else f"{value:g}"


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="currentColor" stroke-width="1" '
        'opacity="0.15"/>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="11" font-family="sans-serif" '
        f'fill="currentColor" opacity="0.75">{escaped(text)}</text>'
    )


def _path(points: Sequence[Point], colour: str, width: float, opacity: float = 1.0) -> str:
    if len(points) < 2:
        return ""
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return (
        f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round" '
        f'opacity="{opacity}"/>'
    )
