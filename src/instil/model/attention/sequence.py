"""Attention over a micro-batch whose tokens are divided over a group of processes (Ulysses).

Each process of the group holds T / N tokens with all heads. Around the attention kernel the group exchanges them, so
that each process holds all T tokens with its own heads. Every other layer computes its own tokens alone.

Why: heads are dealt out as evenly as possible instead of requiring that N divides their number. Query heads that share
a key/value head may land on several processes; each of them then gets that key/value head.

*Source*: Jacobs et al. 2023, "DeepSpeed Ulysses: System Optimizations for Enabling Training of Extreme Long Sequence
Transformer Models".

Shapes: T tokens of the micro-batch, N processes of the group, H query heads, K key/value heads, h and k those of this
process, D and D' widths of keys and values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist

from instil.errors import ModelError


@dataclass(frozen=True, slots=True)
class SequenceGroup:
    """The processes that share the tokens of a micro-batch, as one of them sees them.

    Attributes:
        rank: Number of this process in the group. It holds the tokens from ``rank * T / N`` on.
        size: N, at least 2.
        group: torch's process group.
    """

    rank: int
    size: int
    group: dist.ProcessGroup

    def part_of(self, num_tokens: int) -> slice:
        """Return which of T tokens this process holds; N divides T."""
        return part_of(num_tokens, rank=self.rank, size=self.size)

    @torch.no_grad()
    def sum(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over the group, the same bits on each process, without a gradient."""
        total = numbers.detach().clone()
        dist.all_reduce(total, group=self.group)
        return total

    def gather_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows [T, width] of all processes of the group, in order; differentiable.

        Args:
            rows: [T / N, width] of this process.
        """
        size = self.size
        everywhere = rows.contiguous().reshape(-1).repeat(size)
        return exchange(everywhere, [rows.numel()] * size, [rows.numel()] * size, self.group).view(-1, rows.shape[1])


def part_of(num_tokens: int, *, rank: int, size: int) -> slice:
    """Return which tokens of a micro-batch one of `size` processes holds.

    Example:
        >>> part_of(12, rank=1, size=4)
        slice(3, 6, None)
    """
    tokens = num_tokens // size
    return slice(rank * tokens, (rank + 1) * tokens)


@dataclass(frozen=True, slots=True)
class HeadShare:
    """The heads of one process of a group.

    Attributes:
        first: Its first query head.
        stop: The query head after its last one.
        keys: Its key/value heads, in order. Query head i of its own attends with number ``i // (h / k)`` of them.
    """

    first: int
    stop: int
    keys: tuple[int, ...]

    @property
    def num_queries(self) -> int:
        """Number of query heads h."""
        return self.stop - self.first

    @property
    def num_keys(self) -> int:
        """Number of key/value heads k."""
        return len(self.keys)


@lru_cache
def deal_heads(num_heads: int, num_key_heads: int, size: int) -> tuple[HeadShare, ...]:
    """Deal the heads of a layer out to the processes of a group, in order and as evenly as possible.

    A process gets each key/value head once, if all of them serve equally many of its query heads. Otherwise it gets one
    for each query head.

    Args:
        num_heads: H, at least `size`.
        num_key_heads: K, which divides H.
        size: N.

    Example:
        >>> [share.keys for share in deal_heads(8, 2, 4)]  # one key/value head for two query heads of each process
        [(0,), (0,), (1,), (1,)]
        >>> [(share.first, share.stop, share.keys) for share in deal_heads(6, 2, 4)]
        [(0, 1, (0,)), (1, 3, (0,)), (3, 4, (1,)), (4, 6, (1,))]
    """
    groups = num_heads // num_key_heads
    shares = []
    for rank in range(size):
        first, stop = rank * num_heads // size, (rank + 1) * num_heads // size
        served = [head // groups for head in range(first, stop)]
        distinct = sorted(set(served))
        even = len({served.count(key) for key in distinct}) == 1
        shares.append(HeadShare(first, stop, tuple(distinct if even else served)))
    return tuple(shares)


def why_too_many(num_heads: int, size: int) -> str | None:
    """Return why a layer cannot be divided over a group, or None if it can: each process needs a head.

    Example:
        >>> why_too_many(2, 4)
        'it has 2 attention heads, fewer than the 4 processes that share a micro-batch'
    """
    if num_heads >= size:
        return None
    return f"it has {num_heads} attention heads, fewer than the {size} processes that share a micro-batch"


def to_heads(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, group: SequenceGroup, *, name: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Exchange some tokens with all heads for all tokens with some heads.

    Args:
        query: [1, H, T / N, D].
        key: [1, K, T / N, D].
        value: [1, K, T / N, D'].
        group: The processes.
        name: Name of the layer, for the error.

    Returns:
        Query [1, h, T, D], key [1, k, T, D] and value [1, k, T, D'].

    Raises:
        ModelError: If the layer has fewer heads than the group has processes.
    """
    reason = why_too_many(query.shape[1], group.size)
    if reason is not None:
        raise ModelError(f"{name}: {reason}. Set parallel.sequence to {query.shape[1]} or less.")
    shares = deal_heads(query.shape[1], key.shape[1], group.size)
    tokens, width, value_width = query.shape[2], query.shape[3], value.shape[3]
    rows = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
    packed = [_heads_of(share, *rows) for share in shares]
    mine = shares[group.rank]
    columns = [mine.num_queries * width, mine.num_keys * width, mine.num_keys * value_width]
    received = exchange(
        torch.cat([part.reshape(-1) for part in packed]),
        [part.numel() for part in packed],
        [tokens * sum(columns)] * group.size,
        group.group,
    )
    # Parts come in the order of the processes, which is that of the tokens.
    parts = torch.split(received.view(tokens * group.size, sum(columns)), columns, dim=1)
    counts = (mine.num_queries, mine.num_keys, mine.num_keys)
    queries, keys, values = (
        part.view(part.shape[0], count, -1).transpose(0, 1)[None] for part, count in zip(parts, counts, strict=True)
    )
    return queries, keys, values


def to_tokens(output: torch.Tensor, group: SequenceGroup, *, num_heads: int, num_key_heads: int) -> torch.Tensor:
    """Exchange all tokens with some heads for some tokens with all heads: the way back.

    Args:
        output: [1, T, h, D'].
        group: The processes.
        num_heads: H.
        num_key_heads: K.

    Returns:
        [1, T / N, H, D'].
    """
    shares = deal_heads(num_heads, num_key_heads, group.size)
    tokens, width = output.shape[1] // group.size, output.shape[3]
    sizes = [tokens * share.num_queries * width for share in shares]
    received = exchange(output.reshape(-1), [sizes[group.rank]] * group.size, sizes, group.group)
    parts = [part.view(tokens, -1, width) for part in torch.split(received, sizes)]
    return torch.cat(parts, dim=1)[None]


def own_heads(sinks: torch.Tensor, group: SequenceGroup, *, num_key_heads: int) -> torch.Tensor:
    """Return this process's part of one number for each query head [H]."""
    share = deal_heads(sinks.numel(), num_key_heads, group.size)[group.rank]
    return sinks.reshape(-1)[share.first : share.stop]


def exchange(
    sent: torch.Tensor, sizes: Sequence[int], received: Sequence[int], group: dist.ProcessGroup
) -> torch.Tensor:
    """Send a part of a tensor to each process of a group, and return what they sent here; differentiable.

    Args:
        sent: One row of numbers, the parts in the order of the processes.
        sizes: Length of each part.
        received: Length of the part that comes from each process.
        group: The processes.
    """
    result = _Exchange.apply(sent, tuple(sizes), tuple(received), group)  # type: ignore[no-untyped-call]
    assert isinstance(result, torch.Tensor)
    return result


class _Exchange(torch.autograd.Function):
    """An all-to-all. Its gradient is the all-to-all back."""

    @staticmethod
    def forward(
        ctx: Any, sent: torch.Tensor, sizes: tuple[int, ...], received: tuple[int, ...], group: dist.ProcessGroup
    ) -> torch.Tensor:
        ctx.rest = (sizes, received, group)
        return all_to_all(sent, sizes, received, group)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        sizes, received, group = ctx.rest
        return all_to_all(gradients[0], received, sizes, group), None, None, None


def all_to_all(
    sent: torch.Tensor, sizes: Sequence[int], received: Sequence[int], group: dist.ProcessGroup | None = None
) -> torch.Tensor:
    """Send some rows of a tensor to each process, and return the rows that they sent here; without a gradient.

    Args:
        sent: The rows, those for the first process first.
        sizes: Number of rows for each process.
        received: Number of rows that come from each process.
        group: The processes; None for all.
    """
    output = sent.new_empty(sum(received), *sent.shape[1:])
    dist.all_to_all_single(output, sent.contiguous(), list(received), list(sizes), group=group)
    return output


def _heads_of(share: HeadShare, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return what one process needs of each token, as [T / N, columns].

    Args:
        share: Its heads.
        query: [T / N, H, D].
        key: [T / N, K, D].
        value: [T / N, K, D'].
    """
    first, stop = share.keys[0], share.keys[-1] + 1
    if share.keys == tuple(range(first, stop)):
        keys, values = key[:, first:stop], value[:, first:stop]
    else:
        keys, values = (torch.stack([tensor[:, head] for head in share.keys], dim=1) for tensor in (key, value))
    parts = (query[:, share.first : share.stop], keys, values)
    return torch.cat([part.flatten(1) for part in parts], dim=1)
