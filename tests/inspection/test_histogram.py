"""Claims about histograms."""

from __future__ import annotations

import random
import statistics

import pytest

from instil.inspection.histogram import Bin, LengthHistogram, ShareHistogram, bar_lines


def filled(lengths):
    histogram = LengthHistogram()
    for length in lengths:
        histogram.add(length)
    return histogram


@pytest.mark.parametrize("lengths", [[0], [1], [5, 5, 5], [1, 2, 3, 1000, 100_000], list(range(200))])
def test_every_length_is_in_exactly_one_bin_that_holds_it(lengths):
    bins = filled(lengths).bins()
    assert len(bins) <= 16
    assert sum(each.count for each in bins) == len(lengths)
    for each in bins:
        assert each.count == sum(each.low <= length < each.high for length in lengths)


def test_quantiles_are_near_the_true_ones():
    draw = random.Random(5)
    lengths = [int(draw.lognormvariate(5.5, 0.8)) + 1 for _ in range(5000)]
    histogram = filled(lengths)
    assert histogram.quantile(0.5) == pytest.approx(statistics.median(lengths), rel=0.05)
    assert histogram.quantile(0.95) == pytest.approx(statistics.quantiles(lengths, n=20)[-1], rel=0.06)
    assert histogram.quantile(1.0) == max(lengths)


def test_no_lengths_give_no_bins():
    assert filled([]).bins() == []
    assert filled([]).quantile(0.5) == 0


def test_a_share_of_one_is_in_the_last_bin():
    shares = ShareHistogram()
    for share in (0.0, 0.05, 0.5, 1.0):
        shares.add(share)
    assert [each.count for each in shares.bins()] == [2, 0, 0, 0, 0, 1, 0, 0, 0, 1]


def test_a_bin_that_holds_anything_can_be_seen():
    lines = bar_lines([Bin(1, 10, 1), Bin(10, 20, 1_000_000)], width=10)
    assert "▏" in lines[0]
    assert lines[1].endswith("██████████ 1,000,000")
