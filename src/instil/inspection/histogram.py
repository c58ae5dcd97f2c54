"""Count lengths and shares in bins, in one pass, and draw them with blocks in the terminal.

Why: lengths go into doubling bins (1–2, 2–4, …, each cut in four), because conversations differ by orders of
magnitude. Quantiles are exact to within their bin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

BLOCKS = " ▏▎▍▌▋▊▉█"
_STEPS = 4  # bins in a doubling


@dataclass(frozen=True, slots=True)
class Bin:
    """One bar: numbers from `low` up to `high`, which is excluded."""

    low: float
    high: float
    count: int


class LengthHistogram:
    """Counts lengths in doubling bins.

    Example:
        >>> lengths = LengthHistogram()
        >>> for length in (10, 12, 100, 1000): lengths.add(length)
        >>> lengths.count, lengths.total, lengths.smallest, lengths.largest
        (4, 1122, 10, 1000)
    """

    def __init__(self) -> None:
        self._bins: dict[int, int] = {}
        self.count = 0
        self.total = 0
        self.smallest = 0
        self.largest = 0

    def add(self, length: int) -> None:
        """Count a length ≥ 0."""
        self.smallest = length if self.count == 0 else min(self.smallest, length)
        self.largest = max(self.largest, length)
        self.count += 1
        self.total += length
        index = _bin_of(length)
        self._bins[index] = self._bins.get(index, 0) + 1

    def bins(self, *, most: int = 16, beside: LengthHistogram | None = None) -> list[Bin]:
        """Return the bins from the first to the last that is not empty, joined until there are at most `most`.

        Args:
            most: Largest number of bins.
            beside: A histogram that this one is compared with: both have the bins that hold the lengths of both.

        Example:
            >>> short, long = LengthHistogram(), LengthHistogram()
            >>> short.add(2); long.add(4)
            >>> [bar.count for bar in short.bins(beside=long)], [bar.count for bar in long.bins(beside=short)]
            ([1, 0, 0], [0, 0, 1])
        """
        held = [*self._bins, *(beside._bins if beside is not None else ())]
        if not held:
            return []
        for width in (1, 2, 4, 8, 16):
            first, last = min(held) // width, max(held) // width
            if last - first < most:
                break
        bins = []
        for group in range(first, last + 1):
            count = sum(self._bins.get(index, 0) for index in range(group * width, (group + 1) * width))
            bins.append(Bin(_edge_of(group * width), _edge_of((group + 1) * width), count))
        return [bar for bar in bins if bar.high > bar.low]

    def quantile(self, share: float) -> int:
        """Return the length below which a share of all lengths lies, to within its bin."""
        if not self.count:
            return 0
        target, below = share * self.count, 0
        for index in sorted(self._bins):
            here = self._bins[index]
            if below + here >= target:
                low, high = _edge_of(index), _edge_of(index + 1)
                value = low + (high - 1 - low) * (target - below) / here
                return round(min(max(value, self.smallest), self.largest))
            below += here
        return self.largest


class ShareHistogram:
    """Counts shares from 0 to 1 in ten bins; 1 itself belongs to the last."""

    def __init__(self) -> None:
        self._counts = [0] * 10
        self.count = 0

    def add(self, share: float) -> None:
        """Count a share."""
        self._counts[min(int(share * 10), 9)] += 1
        self.count += 1

    def bins(self) -> list[Bin]:
        """Return the ten bins."""
        return [Bin(index / 10, (index + 1) / 10, count) for index, count in enumerate(self._counts)]


def bar_lines(bins: Sequence[Bin], *, width: int = 40, percent: bool = False) -> list[str]:
    """Return bins drawn as bars, one line each.

    Example:
        >>> bar_lines([Bin(0, 10, 2), Bin(10, 20, 4)], width=4)
        ['  0–9  ██   2', '10–19  ████ 4']
    """
    most = max((bar.count for bar in bins), default=0)
    labels = [bin_label(bar, percent=percent) for bar in bins]
    wide = max((len(label) for label in labels), default=0)
    return [
        f"{label.rjust(wide)}  {_blocks(bar.count, most, width)} {bar.count:,}"
        for label, bar in zip(labels, bins, strict=True)
    ]


def bin_label(bar: Bin, *, percent: bool = False) -> str:
    """Return the label of a bin: its ends, both inclusive for lengths.

    Example:
        >>> bin_label(Bin(10, 20, 3)), bin_label(Bin(0.1, 0.2, 3), percent=True)
        ('10–19', '10%–20%')
    """
    if percent:
        return f"{bar.low:.0%}–{bar.high:.0%}"
    low, high = int(bar.low), int(bar.high) - 1
    return f"{low:,}" if high <= low else f"{low:,}–{high:,}"


def _blocks(count: int, most: int, width: int) -> str:
    if not most:
        return " " * width
    eighths = max(round(count / most * width * 8), 1 if count else 0)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (BLOCKS[rest] if rest else "")).ljust(width)


def _bin_of(length: int) -> int:
    return 0 if length <= 0 else 1 + math.floor(_STEPS * math.log2(length) + 1e-9)


def _edge_of(index: int) -> int:
    """Return the smallest integer in a bin or a later one."""
    return 0 if index <= 0 else math.ceil(2 ** ((index - 1) / _STEPS) - 1e-9)
