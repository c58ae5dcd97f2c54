"""The exact sign test on wins and losses; it imports no numpy, so that a page can use it."""

from __future__ import annotations

import math


def sign_test(wins: int, losses: int) -> float:
    """Return the two-sided probability of a split at least this uneven under a fair coin; exact up to 1,000 pairs.

    Source: W. J. Dixon and A. M. Mood, "The statistical sign test", JASA 41 (1946).

    Example:
        >>> sign_test(10, 0)
        0.001953125
        >>> sign_test(0, 0), sign_test(3, 3)
        (1.0, 1.0)
    """
    n, fewer = wins + losses, min(wins, losses)
    if n <= 1_000:
        return float(min(1.0, 2 * sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n))
    z = (abs(wins - losses) - 1) / math.sqrt(n)  # normal approximation with continuity correction
    return min(1.0, math.erfc(max(0.0, z) / math.sqrt(2)))
