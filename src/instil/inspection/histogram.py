"""Counts of numbers in bins, made in one pass, and drawn with blocks in the terminal.

Questionable on purpose: lengths go into bins that double (1–2, 2–4, …, each cut in four), because conversations are spread over orders
of magnitude; the median and the other quantiles are right to about a fifth of their bin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

BLOCKS = " ▏▎▍▌▋▊▉█"
_STEPS = 4  # bins in a doubling


@dataclass(frozen=True, slots=True)
class Bin:
    """One bar: numbers from `low` up to, not including, `high`."""

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

    def bins(self, *, most: int = 16) -> list[Bin]:
        """Give the bins from the first to the last that holds anything, joined until there are at most `most`."""
        if not self._bins:
            return []
        for width in (1, 2, 4, 8, 16):
            first, last = min(self._bins) // width, max(self._bins) // width
            if last - first < most:
                break
        made = []
        for group in range(first, last + 1):
            count = sum(self._bins.get(index, 0) for index in range(group * width, (group + 1) * width))
            made.append(Bin(_edge_of(group * width), _edge_of((group + 1) * width), count))
        return [each for each in made if each.high > each.low]

    def quantile(self, share: float) -> int:
        """Give the length below which a share of all lies, to within its bin."""
        if not self.count:
            return 0
        wanted, seen = share * self.count, 0
        for index in sorted(self._bins):
            here = self._bins[index]
            if seen + here >= wanted:
                low, high = _edge_of(index), _edge_of(index + 1)
                value = low + (high - 1 - low) * (wanted - seen) / here
                return round(min(max(value, self.smallest), self.largest))
            seen += here
        return self.largest


class ShareHistogram:
    """Counts shares from 0 to 1 in ten bins; 1 itself falls in the last."""

    def __init__(self) -> None:
        self._counts = [0] * 10
        self.count = 0

    def add(self, share: float) -> None:
        """Count a share."""
        self._counts[min(int(share * 10), 9)] += 1
        self.count += 1

    def bins(self) -> list[Bin]:
        """Give the ten bins."""
        return [Bin(index / 10, (index + 1) / 10, count) for index, count in enumerate(self._counts)]


def bar_lines(bins: Sequence[Bin], *, width: int = 40, percent: bool = False) -> list[str]:
    """Draw bins, one line each.

    Example:
        >>> bar_lines([Bin(0, 10, 2), Bin(10, 20, 4)], width=4)
        ['  0–9  ██   2', '10–19  ████ 4']
    """
    most = max((each.count for each in bins), default=0)
    labels = [bin_label(each, percent=percent) for each in bins]
    wide = max((len(label) for label in labels), default=0)
    return [
        f"{label.rjust(wide)}  {_bar(each.count, most, width)} {each.count:,}"
        for label, each in zip(labels, bins, strict=True)
    ]


def bin_label(each: Bin, *, percent: bool = False) -> str:
    """Name a bin by its ends, both inclusive for lengths.

    Example:
        >>> bin_label(Bin(10, 20, 3)), bin_label(Bin(0.1, 0.2, 3), percent=True)
        ('10–19', '10%–20%')
    """
    if percent:
        return f"{each.low:.0%}–{each.high:.0%}"
    low, high = int(each.low), int(each.high) - 1
    return f"{low:,}" if high <= low else f"{low:,}–{high:,}"


def _bar(count: int, most: int, width: int) -> str:
    if not most:
        return " " * width
    eighths = max(round(count / most * width * 8), 1 if count else 0)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (BLOCKS[rest] if rest else "")).ljust(width)


def _bin_of(length: int) -> int:
    return 0 if length <= 0 else 1 + math.floor(_STEPS * math.log2(length) + 1e-9)


def _edge_of(index: int) -> int:
    """Give the smallest whole number that falls in a bin or a later one."""
    return 0 if index <= 0 else math.ceil(2 ** ((index - 1) / _STEPS) - 1e-9)
