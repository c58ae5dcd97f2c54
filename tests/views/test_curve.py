"""The curve of a run as SVG: what it shows, that it stays small, and what it does with odd losses."""

from __future__ import annotations

import math
import re

import pytest
from tests.views.parsed import assert_harmless

from instil.views.curve import MOST_POINTS, describe, finite, loss_svg, smooth, thinned, window


def lines(svg: str) -> list[list[tuple[float, float]]]:
    """Return the places of each line, without those of the legend."""
    drawn = [re.findall(r"(-?[\d.]+) (-?[\d.]+)", path) for path in re.findall(r' d="M([^"]*)"', svg)]
    places = [[(float(x), float(y)) for x, y in places] for places in drawn]
    return [line for line in places if not all(y == 8 for _, y in line)]


def test_the_lines_are_the_losses():
    svg = loss_svg([(1, 3.0), (2, 2.0), (4, 1.0)], [(0, 3.0), (4, 1.0)], num_steps=8)
    assert_harmless(svg)
    (trained,) = lines(svg)
    heldout = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg)[:2]]
    # Places grow with the step, and fall with the loss; the axis goes to the end of the run.
    assert [x for x, _ in trained] == sorted(x for x, _ in trained)
    assert [y for _, y in trained] == sorted(y for _, y in trained)
    assert trained[0][1] == heldout[0][1]
    assert heldout[1] == trained[2]
    half = (heldout[1][0] - heldout[0][0]) / (640 - 52 - 12)
    assert half == pytest.approx(0.5, abs=0.01)
    assert "Loss: training 3.0000 to 1.0000, held-out 3.0000 to 1.0000" in svg


@pytest.mark.slow
@pytest.mark.parametrize("num_points", [1, 2, 51, 5_000, 200_000])
def test_a_curve_is_small_and_inside_its_picture(num_points: int):
    trained = [(step, 10 / (step + 1) + (step % 7) / 10) for step in range(1, num_points + 1)]
    svg = loss_svg(trained, trained[:: max(1, num_points // 20_000)])
    assert len(svg) < 60_000
    assert_harmless(svg)
    numbers = [place for line in lines(svg) for place in line]
    assert all(0 <= x <= 640 and 0 <= y <= 250 for x, y in numbers)
    assert ("circle" in svg) == (num_points <= 60)


def test_smoothing_is_the_mean_of_the_points_around():
    points = [(step, float(step * step % 101)) for step in range(1, 501)]
    half = window(500) // 2
    for (step, value), at in zip(smooth(points), range(500), strict=True):
        around = [loss for _, loss in points[max(0, at - half) : at + min(half, at) + 1]]
        assert value == pytest.approx(sum(around) / len(around))
        assert step == at + 1
    assert smooth([]) == []
    falling = [(step, 100.0 - step) for step in range(100)]
    assert smooth(falling)[:90] == falling[:90]  # no lag


def test_heldout_losses_far_apart_are_dots_alone():
    far = loss_svg([(1, 3.0), (40, 2.0)], [(0, 9.0), (40, 2.5)])
    assert len(lines(far)) == 1
    near = loss_svg([(1, 3.0), (40, 2.0)], [(step, 3.0 - step / 40) for step in range(0, 41, 4)])
    assert len(lines(near)) == 2
    assert "circle" in far


def test_the_axis_is_logarithmic_where_the_losses_fall_early():
    early = loss_svg([(step, 3 + 7 / step) for step in range(1, 31)], [])
    assert "loss (logarithmic)" in early
    assert "logarithmic" not in loss_svg([(step, 3 - step / 20) for step in range(30)], [])
    places = [y for _, y in lines(early)[-1]]
    assert places == sorted(places)


def test_thinning_keeps_the_mean():
    points = [(step, float(step)) for step in range(1, 10_001)]
    assert len(thinned(points)) <= MOST_POINTS
    assert sum(value for _, value in thinned(points)) / len(thinned(points)) == pytest.approx(5000.5)


@pytest.mark.parametrize(
    "losses", [[0.0], [5.0, 5.0], [1e-12, 2e-12], [1e300, 1e-300], [-3.0, -1.0], [0.0, 0.0]], ids=str
)
def test_odd_losses_have_a_curve(losses: list[float]):
    svg = loss_svg(list(enumerate(losses, start=1)), [])
    assert_harmless(svg)
    assert "nan" not in svg


def test_losses_without_a_place_are_left_out():
    assert finite([(1, math.nan), (2, math.inf), (3, None), (4, 1.0)]) == [(4, 1.0)]
    assert loss_svg([(1, math.nan)], []) == ""
    assert describe([(1, 2.0)], []) == "Loss: training 2.0000"
