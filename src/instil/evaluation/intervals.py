"""Figures with 95% intervals.

The intervals come from the percentile bootstrap. Shares of 0% and 100% have Wilson's interval, since their resamples
do not vary.

Why: the random numbers of the bootstrap have a fixed seed, so the same answers always get the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Z_95 = 1.959963984540054
RESAMPLES = 2_000
IN_HUNDREDS = ("bleu", "chrf")
"""Figures of tasks between 0 and 100; the others are between 0 and 1, but for those in nats."""
IN_NATS = ("margin",)


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95% interval.

    Attributes:
        value: The figure; NaN where n is 0.
        low: Lower end.
        high: Upper end.
        n: Number of cases.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}]"


def share_interval(successes: int, n: int) -> Interval:
    """Return the share of successes with Wilson's score interval, which is valid at 0% and 100% too.

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
    low = 0.0 if successes == 0 else middle - half  # exact; the formula is subject to rounding
    high = 1.0 if successes == n else middle + half
    return Interval(share, low, high, n)


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean with its bootstrap interval; with Wilson's if all values are 0 or all are 1.

    Example:
        >>> str(mean_interval([1, 0, 1, 1, 0, 1, 1, 1, 1, 1]))
        '80.0% [50.0%, 100.0%]'
        >>> mean_interval([1, 1, 1]) == share_interval(3, 3)
        True
        >>> mean_interval([0.5, 0.5]).low
        0.5
    """
    if set(values) in ({0}, {1}) or not values:
        return share_interval(int(sum(values)), len(values))
    array = np.asarray(values, dtype=float)
    return resampled_interval(len(values), lambda rows: array[rows].mean(axis=-1))


def resampled_interval(n: int, statistic: Callable[[np.ndarray], np.ndarray]) -> Interval:
    """Return a statistic with its percentile bootstrap interval.

    Args:
        n: Number of cases.
        statistic: Takes indices of cases, [n] or [resamples, n], and returns the statistic of each row of indices.

    Source: B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7 (1979).
    """
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    random = np.random.default_rng(0)
    value = float(statistic(np.arange(n)))
    drawn: list[float] = []
    size = max(1, min(RESAMPLES, 4_000_000 // n))  # resamples at a time: bounds the memory for a large n
    while len(drawn) < RESAMPLES:
        rows = random.integers(0, n, size=(min(size, RESAMPLES - len(drawn)), n))
        drawn.extend(np.atleast_1d(statistic(rows)).tolist())
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Interval(value, float(low), float(high), n)


def show(name: str, figure: Interval) -> str:
    """Return a figure as text, with its interval and n.

    Example:
        >>> show("bleu", Interval(31.2, 29.0, 33.4, 200))
        '31.2 [29.0, 33.4] n=200'
    """
    return "none" if figure.n == 0 else f"{' '.join(texts_of(name, figure))} n={figure.n}"


def texts_of(name: str, figure: Interval) -> tuple[str, str]:
    """Return a figure and its interval as texts; shares in percent.

    Example:
        >>> texts_of("numeric", Interval(0.5, 0.25, 0.75, 8)), texts_of("bleu", Interval(31.2, 29.0, 33.4, 200))
        (('50.0%', '[25.0%, 75.0%]'), ('31.2', '[29.0, 33.4]'))
    """
    numbers = (figure.value, figure.low, figure.high)
    form = ".1f" if name in IN_HUNDREDS else ".2f" if name in IN_NATS else ".1%"
    value, low, high = (format(number, form) for number in numbers)
    return value, f"[{low}, {high}]"
