from __future__ import annotations

import pytest

from instil.evaluation.comparison import compare
from instil.evaluation.sign_test import sign_test


@pytest.mark.slow
def test_the_sign_test_equals_scipys_binomial_test():
    scipy = pytest.importorskip("scipy.stats")
    for wins, losses in [(0, 0), (5, 0), (7, 3), (30, 50), (600, 500)]:
        expected = scipy.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
        assert sign_test(wins, losses) == pytest.approx(expected, rel=0.02)


def test_pairs_are_compared_not_averages():
    found = compare([1, 0, 1, 1], [0, 1, 1, 0])
    assert (found.wins, found.losses, found.ties) == (2, 1, 1)
    assert found.difference.value == 0.25
    same = compare([0.5] * 9, [0.5] * 9)
    assert (same.ties, same.p_value, same.difference.low, same.difference.high) == (9, 1.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="same prompts"):
        compare([1], [1, 0])
