from __future__ import annotations

import math

from instil.screen import sparkline


def test_a_sparkline_has_at_most_as_many_bars_as_values():
    assert sparkline([], width=8) == ""
    assert sparkline([1.0], width=8) == "▁"
    assert sparkline([3.0, 3.0, 3.0], width=2) == "▁▁"
    assert len(sparkline([float(number) for number in range(1000)], width=12)) == 12


def test_values_that_are_not_finite_are_left_out():
    assert sparkline([math.nan, 2.0, math.inf, 1.0], width=8) == "█▁"
