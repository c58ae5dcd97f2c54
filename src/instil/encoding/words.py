"""Ids of texts put together from those of their parts, each part tokenized once however often it stands somewhere.

Where a tokenizer's texts may be cut (`cuts`), most of a text is words that came before. Their ids are looked up; new ones are
laid end to end and tokenized many at a time, because a tokenizer's cost for a short text is mostly that of the call. Questionable on purpose: when
much is remembered everything is forgotten at once; what is in use comes back with the next batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, islice, pairwise
from typing import Any

import numpy as np

from instil.encoding.cuts import Cuts

_CHARACTERS = 4_000_000
_TOGETHER = 64


class Words:
    """Tokenizes what follows a text's first part.

    Example:
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> from instil.encoding.cuts import find_cuts
        >>> backend = Tokenizer(models.BPE({"Ġ": 0, "a": 1, "b": 2, "Ġa": 3}, [("Ġ", "a")]))
        >>> backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        >>> words = Words(backend, find_cuts(backend))
        >>> words.learn(["ab", "b"])
        >>> words.ids(["ab", "b", "ab"])
        [3, 2, 0, 2, 3, 2]
    """

    def __init__(self, backend: Any, cuts: Cuts) -> None:
        """Wrap a tokenizer whose texts may be cut."""
        self._backend, self._cuts = backend, cuts
        self._known: dict[str, list[int]] = {}
        self._inner: dict[str, list[int]] = {}
        self._held = 0
        self._anchor = len(backend.encode(cuts.anchor, add_special_tokens=False).ids) if cuts.anchor else 0
        self.split = cuts.split.split
        """Gives the parts of a text; each but the first without the space that begins it."""

    def ids(self, parts: Iterable[str]) -> list[int]:
        """Give the ids of parts that are learnt, none of them a text's first."""
        return list(chain.from_iterable(map(self._known.__getitem__, parts)))

    def learn(self, parts: Iterable[str]) -> None:
        """Tokenize those parts that are new."""
        wanted = set(parts)
        if self._held > _CHARACTERS:
            self._known.clear()
            self._inner.clear()
            self._held = 0
        new = wanted - self._known.keys()
        if not new:
            return
        self._held += sum(map(len, new))
        if self._cuts.finer is None:
            self._learn_whole(new)
            return
        finer = {part: self._cuts.finer.split(part) for part in new}
        self._learn_whole({cut[0] for cut in finer.values()} - self._known.keys())
        inner = {piece for cut in finer.values() for piece in cut[1:]} - self._inner.keys()
        for piece, made in zip(inner, self._encoded(list(inner)), strict=True):
            self._inner[piece] = made
        for part, (start, *rest) in finer.items():
            if rest:
                self._known[part] = [*self._known[start], *chain.from_iterable(map(self._inner.__getitem__, rest))]

    def _learn_whole(self, new: Iterable[str]) -> None:
        ends = self._cuts.split.match
        together: list[str] = []
        alone: list[str] = []
        for part in new:
            (together if ends(part + " ", len(part)) else alone).append(part)
        self._learn_alone(alone)
        following = iter(together)
        self._learn_together(list(iter(lambda: list(islice(following, _TOGETHER)), [])))

    def _learn_alone(self, parts: Sequence[str]) -> None:
        made = self._encoded([f"{self._cuts.anchor} {part}" for part in parts])
        for part, ids in zip(parts, made, strict=True):
            self._known[part] = ids[self._anchor :]

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        made = self._backend.encode_batch_fast(texts, add_special_tokens=False) if texts else ()
        return [each.ids for each in made]

    def _learn_together(self, groups: Sequence[Sequence[str]]) -> None:
        """Tokenize parts that end in a place where a text may be cut, a group as one text; offsets say which ids are whose."""
        if not groups:
            return
        texts = [" ".join([self._cuts.anchor, *group]) for group in groups]
        for group, made in zip(groups, self._backend.encode_batch(texts, add_special_tokens=False), strict=True):
            ids = made.ids
            begins = np.cumsum([len(self._cuts.anchor), *(len(part) + 1 for part in group)])
            starts = np.fromiter(chain.from_iterable(made.offsets), dtype=np.int64, count=2 * len(ids))[::2]
            bounds = np.searchsorted(starts, begins).tolist()
            bounds[-1] = len(ids)
            if bounds[0] != self._anchor or not all(a < b for a, b in pairwise(bounds)):
                self._learn_alone(group)  # its offsets do not tell
                continue
            for part, start, end in zip(group, bounds, bounds[1:], strict=False):
                self._known[part] = ids[start:end]
