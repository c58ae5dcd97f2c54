"""Claims about the points that stand for a curve."""

from __future__ import annotations

import time
from random import Random

from instil.studio.lttb import lttb


def test_ends_and_peaks_stay():
    curve = [(float(x), 0.0) for x in range(5_000)]
    for x, y in ((17, 3.0), (2_500, -4.0), (4_990, 5.0)):
        curve[x] = (float(x), y)
    chosen = lttb(curve, 60)
    assert len(chosen) == 60
    assert (chosen[0], chosen[-1]) == (curve[0], curve[-1])
    assert {(17.0, 3.0), (2_500.0, -4.0), (4_990.0, 5.0)} <= set(chosen)
    assert chosen == sorted(chosen)


def test_by_hand():
    """Four points of six: the buckets are {1, 2} and {3, 4}; of each the largest triangle."""
    curve = [(0.0, 0.0), (1.0, 1.0), (2.0, 0.0), (3.0, 0.0), (4.0, 5.0), (5.0, 0.0)]
    assert lttb(curve, 4) == [(0.0, 0.0), (2.0, 0.0), (4.0, 5.0), (5.0, 0.0)]


def test_few_points_are_all_kept_and_every_number_is_met():
    rng = Random(0)
    for count in (0, 1, 3, 4, 7, 50, 333):
        curve = [(float(x), rng.random()) for x in range(count)]
        for most in (3, 4, 5, 49, 332, 1_000):
            chosen = lttb(curve, most)
            assert len(chosen) == min(count, most)
            assert set(chosen) <= set(curve)


def test_a_hundred_thousand_steps_take_a_moment():
    curve = [(float(x), (x * 37 % 101) / 101) for x in range(100_000)]
    began = time.process_time()
    assert len(lttb(curve, 1_000)) == 1_000
    assert time.process_time() - began < 0.5
