"""Plans which rows of a flat micro-batch meet in which batched product of attention on a CPU.

Examples of similar length form a group. The j-th block of queries of all its examples makes one product with the keys
up to it. The number of examples in a product is a power of two and the number of keys is rounded, so that oneDNN gets
few shapes (see `speedups.round_sizes`). A plan depends only on lengths and heads: it is made once for a micro-batch and
serves all layers.

Shapes: T tokens, H query heads, K key/value heads, G = H / K; R and S rows of queries and keys that products read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from instil.model.speedups.round_sizes import round_up

BLOCK = 64
"""Queries of a block. Smaller blocks waste less on what the mask hides; larger ones make faster products."""
TOGETHER = 4
"""Maximum number of examples in a product. Eight are not faster, and every other number is one more shape."""

Places = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Block:
    """One batched product: the same block of several examples.

    Attributes:
        queries: Its rows among the R gathered ones, N times G * BLOCK of them.
        keys: Its examples' rows among the S gathered ones, N times the group's longest example.
        count: N, the number of examples times K.
        start: First query of the block, counted from the example's start.
        first: First key that any of its queries sees.
        num_keys: Number of keys, rounded up; those after the last query are masked.
    """

    queries: slice
    keys: slice
    count: int
    start: int
    first: int
    num_keys: int


@dataclass(frozen=True)
class BlockPlan:
    """The products of one micro-batch, and where their rows come from and go to.

    Rows of queries are [T * H], token by token; rows of keys are [T * K]. Where a block extends past the end of its
    example, rows of queries and keys repeat other rows, which nothing reads, and rows of gradients are zeros.

    Attributes:
        blocks: The products.
        num_groups: K.
        query_rows: R indices into T * H rows.
        gradient_rows: The same, but T * H, the index of a row of zeros, past the end of an example.
        query_places: For each of T * H rows, its index among the R.
        key_rows: S indices into T * K rows.
        key_places: For each of T * K rows, its index among the S.
    """

    blocks: tuple[Block, ...]
    num_groups: int
    query_rows: Places
    gradient_rows: Places
    query_places: Places
    key_rows: Places
    key_places: Places


@lru_cache(maxsize=4)
def plan_blocks(lengths: tuple[int, ...], *, num_heads: int, num_groups: int, window: int | None) -> BlockPlan:
    """Plan the products of a micro-batch.

    Args:
        lengths: Number of tokens of each example.
        num_heads: H.
        num_groups: K.
        window: Number of tokens that a token sees, itself included; None for all before it.

    Example:
        >>> plan = plan_blocks((70, 20, 3), num_heads=2, num_groups=1, window=None)
        >>> [(block.count, block.start, block.num_keys) for block in plan.blocks]
        [(2, 0, 64), (1, 0, 64), (1, 64, 128)]
    """
    starts = list(accumulate(lengths, initial=0))[:-1]
    blocks: list[Block] = []
    query_tokens: list[Any] = []
    key_tokens: list[Any] = []
    num_queries = num_keys = 0
    past = sum(lengths)
    for members in _groups(lengths):
        # All of a group's keys are gathered once; each of its blocks of queries then reads a part of them.
        longest = lengths[members[0]]
        steps = [_keys_of(start, window) for start in range(0, longest, BLOCK)]
        width = max(first + count for first, count in steps)
        key_tokens.append(_tokens(members, 0, width, starts, lengths, past))
        for number, (first, count) in enumerate(steps):
            start = number * BLOCK
            # Members are sorted by length, so the first `reaching` ones are those with tokens in this block.
            reaching = sum(lengths[member] > start for member in members)
            for begin, size in _powers_of_two(reaching):
                heads, rows = size * num_groups, size * num_heads * BLOCK
                keys = slice(num_keys + begin * num_groups * width, num_keys + (begin + size) * num_groups * width)
                blocks.append(Block(slice(num_queries, num_queries + rows), keys, heads, start, first, count))
                query_tokens.append(_tokens(members[begin : begin + size], start, BLOCK, starts, lengths, past))
                num_queries += rows
        num_keys += len(members) * num_groups * width
    gradient_rows = np.concatenate([_by_head(tokens, num_heads, past) for tokens in query_tokens])
    padded_keys = np.concatenate([_by_head(tokens, num_groups, past) for tokens in key_tokens])
    return BlockPlan(
        tuple(blocks),
        num_groups,
        np.minimum(gradient_rows, past * num_heads - 1),
        gradient_rows,
        _inverse(gradient_rows, past * num_heads),
        np.minimum(padded_keys, past * num_groups - 1),
        _inverse(padded_keys, past * num_groups),
    )


def _groups(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield groups of examples of similar length, longest first.

    A group has at most `TOGETHER` examples, and none has less than half as many blocks as another.
    """
    group: list[int] = []
    for member in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if group and (len(group) == TOGETHER or -(-lengths[member] // BLOCK) * 2 < -(-lengths[group[0]] // BLOCK)):
            yield group
            group = []
        group.append(member)
    yield group


def _keys_of(start: int, window: int | None) -> tuple[int, int]:
    """Return the first key that a block sees, rounded down to a block start, and the number of keys, rounded up."""
    first = 0 if window is None else max(0, start - window + 1) // BLOCK * BLOCK
    return first, round_up(start + BLOCK - first)


def _powers_of_two(count: int) -> Iterator[tuple[int, int]]:
    """Yield the start and size of each power of two that a number is cut into, largest first.

    Example:
        >>> list(_powers_of_two(7))
        [(0, 4), (4, 2), (6, 1)]
    """
    begin = 0
    while begin < count:
        size = 1 << ((count - begin).bit_length() - 1)
        yield begin, size
        begin += size


def _tokens(
    members: Sequence[int], start: int, count: int, starts: Sequence[int], lengths: Sequence[int], past: int
) -> Any:
    """Return `count` tokens of each example from `start` on, [examples, count]; `past` after the example's end."""
    own = np.arange(start, start + count, dtype=np.int64)[None, :]
    begins, ends = (np.asarray([values[member] for member in members])[:, None] for values in (starts, lengths))
    return np.where(own < ends, begins + own, past)


def _by_head(tokens: Any, heads: int, past: int) -> Places:
    """Return the rows of tokens [examples, count] for all heads, head by head within an example."""
    rows = tokens[:, None, :] * heads + np.arange(heads)[None, :, None]
    flat: Places = np.minimum(rows, past * heads).astype(np.int32).reshape(-1)
    return flat


def _inverse(rows: Places, count: int) -> Places:
    """Return, for each of `count` rows, its index in `rows`."""
    places = np.empty(count + 1, dtype=np.int32)
    places[rows] = np.arange(len(rows), dtype=np.int32)
    return places[:-1]
