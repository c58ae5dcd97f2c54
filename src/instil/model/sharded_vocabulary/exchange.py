"""What processes send each other so that a table's rows can stay where they are.

Every function here is a collective: all processes call it in the same order, each with its own tokens.

Shapes: R processes, T tokens of this process, M rows that others ask this process for, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from instil.model.attention.sequence import all_to_all

# torch 2.13 has renamed both, and warns of the old names.
_all_gather: Callable[..., Any] = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)
_reduce_scatter: Callable[..., Any] = getattr(dist, "reduce_scatter_single", dist.reduce_scatter_tensor)


def rows_of_each(num_rows: int) -> int:
    """Return how many rows of a table each process holds; the last ones may hold fewer, or none."""
    return -(-num_rows // dist.get_world_size())


def rows_of(rank: int, num_rows: int) -> tuple[int, int]:
    """Return the rows of a table that a process holds as ``(start, stop)``, half-open."""
    each = rows_of_each(num_rows)
    return min(rank * each, num_rows), min((rank + 1) * each, num_rows)


def largest(count: int, device: torch.device) -> int:
    """Return the largest of a number over all processes."""
    number = torch.tensor([count], device=device)
    dist.all_reduce(number, op=dist.ReduceOp.MAX)
    return int(number)


def gathered(mine: torch.Tensor) -> torch.Tensor:
    """Return the equally shaped tensors of all processes, stacked by rank [R, ...]."""
    size = dist.get_world_size()
    out = mine.new_empty(size * mine.shape[0], *mine.shape[1:])
    _all_gather(out, mine.contiguous())
    return out.view(size, *mine.shape)


def summed_share(all_rows: torch.Tensor) -> torch.Tensor:
    """Sum [R, ...] over the processes, and return what is this process's."""
    out = torch.empty_like(all_rows[0])
    _reduce_scatter(out, all_rows.flatten(0, 1).contiguous())
    return out


def swapped(all_rows: torch.Tensor) -> torch.Tensor:
    """Send entry r of [R, ...] to process r, and return what each process sent here [R, ...]."""
    out = torch.empty_like(all_rows)
    dist.all_to_all_single(out, all_rows.contiguous())
    return out


@dataclass(frozen=True, slots=True)
class Route:
    """Which process holds the rows of this process's ids, and which rows others want from this one.

    Attributes:
        order: Positions of the ids, sorted by the process that holds their row [T].
        asked: Ids whose rows the processes want from this one, by rank [M].
        sent: Number of ids that went to each process.
        received: Number of ids that came from each process.
    """

    order: torch.Tensor
    asked: torch.Tensor
    sent: list[int]
    received: list[int]

    @classmethod
    def of(cls, ids: torch.Tensor, rows_each: int) -> Route:
        """Tell every process which of its rows are wanted.

        Args:
            ids: T ids of this process.
            rows_each: From `rows_of_each`.
        """
        owners = ids // rows_each
        order = torch.argsort(owners, stable=True)
        counts = torch.bincount(owners, minlength=dist.get_world_size())
        incoming = torch.empty_like(counts)
        dist.all_to_all_single(incoming, counts)
        sent, received = counts.tolist(), incoming.tolist()
        return cls(order, all_to_all(ids[order], sent, received), sent, received)

    def answer(self, rows: torch.Tensor) -> torch.Tensor:
        """Send the rows that were asked for [M, D], and return those that this process asked for [T, D]."""
        came = all_to_all(rows, self.received, self.sent)
        out = torch.empty_like(came)
        out[self.order] = came
        return out

    def return_gradients(self, gradients: torch.Tensor) -> torch.Tensor:
        """Send the gradients of this process's rows [T, D] to where the rows are, and return what came here [M, D]."""
        return all_to_all(gradients[self.order], self.sent, self.received)
