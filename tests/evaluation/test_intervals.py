from __future__ import annotations

import math

import numpy as np
import pytest

from instil.evaluation.intervals import mean_interval, resampled_interval, share_interval


def test_intervals_cover_the_truth_about_95_times_in_100():
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        figure = mean_interval(random.normal(0.3, 1.0, size=60).tolist())
        hits += figure.low <= 0.3 <= figure.high
    assert 180 <= hits <= 198


def test_a_share_has_the_bootstraps_interval_and_wilsons_at_the_ends():
    scipy = pytest.importorskip("scipy.stats")
    values = [1.0] * 30 + [0.0] * 70
    found = mean_interval(values)
    # Resampling a share draws from the binomial distribution.
    assert (found.low, found.high) == pytest.approx(tuple(scipy.binom.ppf([0.025, 0.975], 100, 0.3) / 100), abs=0.011)
    assert found != share_interval(30, 100)
    assert mean_interval([1.0] * 20) == share_interval(20, 20)
    assert mean_interval([0.0] * 20) == share_interval(0, 20)
    assert share_interval(20, 20).low == pytest.approx(0.8389, abs=1e-4)
    for n in range(1, 60):
        assert (share_interval(0, n).low, share_interval(n, n).high) == (0.0, 1.0)
    assert math.isnan(mean_interval([]).value)


def test_the_bootstrap_repeats_itself():
    values = [0.1, 0.5, 0.9, 0.2]
    assert mean_interval(values) == mean_interval(values)
    assert resampled_interval(1, lambda rows: np.zeros(rows.shape[:-1])).low == 0
