"""Find rows that are nearly equal to an earlier one, in bounded memory.

MinHash: each text becomes the set of its runs of `SHINGLE` words, and the set becomes `NUM_HASHES` minima. The share of
equal minima estimates the share of common runs. Rows that agree on one of `NUM_BANDS` groups of minima are compared.

*Source*: Broder, "On the resemblance and containment of documents", 1997.

Why: the tables of candidates have a fixed size. If two rows fall on one slot, the older is forgotten. So a
near-duplicate can be missed in very large files, but every reported one was compared.
"""

from __future__ import annotations

import re
import zlib
from typing import Any

import numpy as np

from instil.conversation import Place

NUM_HASHES, NUM_BANDS, SHINGLE = 64, 16, 4
THRESHOLD = 0.8
_MAX_WORDS = 4000
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+")
_MIX = np.uint64(0x9E3779B97F4A7C15)


class NearDuplicates:
    """Remembers rows, and finds an earlier one that is nearly equal to a new one.

    Args:
        max_rows: Number of rows to remember, 80 bytes each. Later rows are only compared with these.
        slots: Size of each candidate table, a power of two.

    Example:
        >>> seen = NearDuplicates(max_rows=10)
        >>> text = "the quick brown fox jumps over the lazy dog and then it sleeps in the warm sun for a while "
        >>> seen.add(text, Place("a.jsonl", 1)), str(seen.add(text + "again", Place("a.jsonl", 2)))
        (None, 'a.jsonl:1')
    """

    def __init__(self, *, max_rows: int = 500_000, slots: int = 1 << 19) -> None:
        self._max_rows = max_rows
        self._slots = slots
        self._tables = np.zeros((NUM_BANDS, slots), np.int32)  # row + 1; 0 is empty
        self._minima = np.zeros((1024, NUM_HASHES), np.uint8)  # the low byte of each minimum
        self._sources: list[str] = []
        self._rows = np.zeros((1024, 3), np.int64)  # source, row number, line or 0
        self.num_rows = 0
        self.num_not_remembered = 0
        draw = np.random.default_rng(20261121)
        self._factors = draw.integers(1, 1 << 63, NUM_HASHES, dtype=np.uint64) | np.uint64(1)
        self._terms = draw.integers(0, 1 << 63, NUM_HASHES, dtype=np.uint64)

    def add(self, text: str, place: Place) -> Place | None:
        """Remember a row, and return the place of an earlier row that is nearly equal, or None."""
        minima = self._minima_of(text)
        if minima is None:
            return None
        slots = self._slots_of(minima)
        low = (minima & np.uint64(0xFF)).astype(np.uint8)
        earlier = self._find(slots, low)
        self._remember(slots, low, place)
        return earlier

    def _minima_of(self, text: str) -> Any:
        """Return the minima of a text's shingles, or None if the text is too short to compare."""
        words = _WORD.findall(text[: _MAX_WORDS * 12].lower())[:_MAX_WORDS]
        if len(words) < 2 * SHINGLE:
            return None
        hashed = np.fromiter((zlib.crc32(word.encode("utf-8", "replace")) for word in words), np.uint64, len(words))
        shingles = np.zeros(len(words) - SHINGLE + 1, np.uint64)
        for start in range(SHINGLE):
            shingles = (shingles + hashed[start : start + len(shingles)]) * _MIX
            shingles ^= shingles >> np.uint64(31)
        # Multiply and shift: the high half of a wrapping product is a separate hash for every factor.
        return ((shingles[:, None] * self._factors + self._terms) >> np.uint64(32)).min(axis=0)

    def _slots_of(self, minima: Any) -> list[int]:
        bands = minima.reshape(NUM_BANDS, -1)
        return [zlib.crc32(band.tobytes()) & (self._slots - 1) for band in bands]

    def _find(self, slots: list[int], low: Any) -> Place | None:
        candidates = {int(self._tables[band, slot]) - 1 for band, slot in enumerate(slots)} - {-1}
        best, best_row = THRESHOLD, -1
        for row in sorted(candidates):
            likeness = float((self._minima[row] == low).mean())
            if likeness > best or (likeness == best and best_row < 0):
                best, best_row = likeness, row
        if best_row < 0:
            return None
        source, number, line = self._rows[best_row].tolist()
        return Place(self._sources[source], number, line=line or None)

    def _remember(self, slots: list[int], low: Any, place: Place) -> None:
        if self.num_rows >= self._max_rows:
            self.num_not_remembered += 1
            return
        if self.num_rows == len(self._minima):
            size = min(2 * self.num_rows, self._max_rows)
            self._minima = np.resize(self._minima, (size, NUM_HASHES))
            self._rows = np.resize(self._rows, (size, 3))
        if not self._sources or self._sources[-1] != place.source:
            self._sources.append(place.source)
        self._minima[self.num_rows] = low
        self._rows[self.num_rows] = (len(self._sources) - 1, place.row, place.line or 0)
        for band, slot in enumerate(slots):
            self._tables[band, slot] = self.num_rows + 1
        self.num_rows += 1
