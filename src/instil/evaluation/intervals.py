"""95% intervals of shares."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95% interval.

    Attributes:
        value: The figure; NaN where n is 0.
        low: Lower end.
        high: Upper end.
        n: How many cases it was measured on.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}]"


def share_interval(successes: int, n: int) -> Interval:
    """Give the share of successes with Wilson's score interval, which holds at 0% and 100% too.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).

    Example:
        >>> str(share_interval(9, 10))
        '90.0% [59.6%, 98.2%]'
        >>> share_interval(0, 50).low
        0.0
    """
    if n == 0:
        return Interval(math.nan, 0.0, 1.0, 0)
    share, z2 = successes / n, Z_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half), n)
