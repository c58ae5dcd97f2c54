"""A curve in one line of text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

LEVELS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], *, width: int) -> str:
    """Return a curve of bars, each the mean of its share of the values; not more bars than values.

    Values that are not finite are left out.

    Args:
        values: The values, oldest first.
        width: Largest number of bars.

    Example:
        >>> sparkline([8, 7, 6, 5, 4, 3, 2, 1], width=8), sparkline([4.0, 2.0, 2.0, 1.0], width=2)
        ('█▇▆▅▄▃▂▁', '█▁')
    """
    finite = [value for value in values if math.isfinite(value)]
    num_bars = min(width, len(finite))
    if num_bars < 1:
        return ""
    edges = [round(number * len(finite) / num_bars) for number in range(num_bars + 1)]
    means = [math.fsum(finite[low:high]) / (high - low) for low, high in itertools.pairwise(edges)]
    lowest, highest = min(means), max(means)
    if highest == lowest:
        return LEVELS[0] * num_bars
    return "".join(LEVELS[round((mean - lowest) / (highest - lowest) * (len(LEVELS) - 1))] for mean in means)
