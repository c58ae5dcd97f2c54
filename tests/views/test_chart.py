"""Charts as SVG: what has to be read is inside the picture, at each of its widths."""

from __future__ import annotations

import re

import pytest

from instil.views.chart import NARROW, WIDE, Line, chart_svg
from instil.views.curve import loss_svg

TEXT = re.compile(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)"[^>]*>([^<]*)<')
LETTER, DESCENDER = 6.1, 4.0


def texts_of(svg: str) -> tuple[float, float, list[tuple[float, float, str]]]:
    """Return the size of a chart, and where each of its texts starts."""
    width, height = map(float, re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups())
    found = []
    for x, y, anchor, text in TEXT.findall(svg):
        length = LETTER * len(text)
        found.append((float(x) - {"start": 0.0, "middle": length / 2, "end": length}[anchor], float(y), text))
    return width, height, found


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_every_word_is_inside_and_no_legend_lies_on_another(width):
    points = [(float(step), 20.0 * 0.9**step) for step in range(1, 61)]
    svg = loss_svg(points, points[::6], num_steps=60, width=width)
    wide, height, texts = texts_of(svg)
    assert wide == width
    assert {"training, each step", "mean of 5 steps", "held-out", "step"} <= {text for _, _, text in texts}
    for x, y, text in texts:
        assert 0 <= x <= x + LETTER * len(text) <= wide, text
        assert y + DESCENDER <= height, text
    for x, y, text in texts:
        beside = [(a, b) for a, at, b in texts if at == y and a > x]
        assert all(a >= x + LETTER * len(text) for a, _ in beside), (text, beside)


def test_a_long_legend_takes_more_rows_of_a_narrow_chart_and_the_curves_begin_below_it():
    lines = [Line(f"a figure with a name {n}", [(1, 1.0), (2, 2.0 + n)], "#000") for n in range(5)]
    for width, rows in ((WIDE, 2), (NARROW, 3)):
        svg = chart_svg(lines, axis="%", label="five", width=width)
        legend = {y for _, y, text in texts_of(svg)[2] if text.startswith("a figure")}
        assert len(legend) == rows
        curves = [float(y) for y in re.findall(r'<path d="M[\d.]+ [\d.]+L[\d.]+ ([\d.]+)"', svg)[:5]]
        assert min(curves) > max(legend)
