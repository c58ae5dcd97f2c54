"""Keys and values of texts that have been read, so that a later prompt with the same beginning computes only its rest.

Shapes: L layers, K key-value heads, N tokens, D width of a head.

Why: whole rows are kept, and any common beginning of one is used. So a template that rewrites the history makes the
beginning shorter, and nothing else has to be known about it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from instil.generation.decoder.slots import Slots

PREFIX_BYTES = 512_000_000
"""Most bytes that are kept, unless an engine is told another limit."""
LEAST_TOKENS = 16
"""Fewest tokens that are copied. A prompt that is read from its start needs no mask, which is worth a few tokens."""
_MOST_TEXTS = 256
"""Most texts, each of which is compared with every new prompt."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """The keys and values of a text, each [L, K, N, D]; they are never written again."""

    keys: Tensor
    values: Tensor

    @property
    def num_bytes(self) -> int:
        return 2 * self.keys.numel() * self.keys.element_size()


class Prefixes:
    """Texts that were read by one model, the least recently used of which leave first.

    Args:
        most_bytes: Most bytes of keys and values.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._texts: OrderedDict[tuple[int, ...], _Kept] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def num_bytes(self) -> int:
        """Bytes of the kept keys and values."""
        return sum(kept.num_bytes for kept in self._texts.values())

    def copy_to(self, slots: Slots, row: int, prompt: Sequence[int]) -> int:
        """Fill an empty row with the longest known beginning of a prompt.

        Returns:
            How many tokens were filled: 0, or from `LEAST_TOKENS` to all but the last, whose logits are wanted.
        """
        ids = tuple(prompt[:-1])
        with self._lock:
            lengths = {text: _num_common(text, ids) for text in self._texts}
            # Of equally long beginnings, the one that was used last.
            best = max(reversed(self._texts), key=lengths.__getitem__, default=None)
            if best is None or lengths[best] < LEAST_TOKENS:
                return 0
            self._texts.move_to_end(best)
            kept = self._texts[best]
        slots.fill(row, kept.keys, kept.values, lengths[best])
        return lengths[best]

    def keep(self, slots: Slots, row: int, ids: Sequence[int]) -> None:
        """Keep a row that leaves, in place of texts that it begins with; of one beyond the limit, its beginning.

        Args:
            slots: Where its keys and values are.
            row: Its row.
            ids: Its tokens, as many as its slot holds.
        """
        token_bytes = slots.token_bytes
        text = tuple(ids[: self._most_bytes // token_bytes])
        if len(text) < LEAST_TOKENS:
            return
        with self._lock:
            for other in list(self._texts):
                if other[: len(text)] == text:
                    self._texts.move_to_end(other)
                    return
                if text[: len(other)] == other:
                    del self._texts[other]
            # Room is made before the copy, so that the limit holds at every moment.
            while self._texts and (
                len(self._texts) >= _MOST_TEXTS or self.num_bytes + len(text) * token_bytes > self._most_bytes
            ):
                self._texts.popitem(last=False)
            self._texts[text] = _Kept(*slots.copied(row, len(text)))


def _num_common(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many tokens two texts begin with alike.

    Example:
        >>> _num_common((5, 6, 7, 8), (5, 6, 9)), _num_common((5, 6), (5, 6, 9)), _num_common((4,), (5,))
        (2, 2, 0)
    """
    # By halves: slices are compared much faster than tokens one by one.
    least, most = 0, min(len(first), len(second))
    while least < most:
        middle = (least + most + 1) // 2
        if first[least:middle] == second[least:middle]:
            least = middle
        else:
            most = middle - 1
    return least
