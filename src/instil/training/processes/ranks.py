"""The processes of a run, and how they speak to each other.

Everything that the loop asks of other processes is here: sums, agreement, waiting. With one process each is a no-op, so the
loop has no branches for it. Questionable on purpose: decisions that all must share (stop, skip a step) travel in one small fp64
sum a step instead of broadcasts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist


@dataclass(frozen=True, slots=True)
class Ranks:
    """One process among those of a run.

    Attributes:
        rank: Number of this process over all machines.
        size: Number of processes.
        device: Where this process computes.
        patient: A group of processes that wait for each other without a limit, for work that one does for all.
    """

    rank: int
    size: int
    device: torch.device
    patient: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run folder and speaks to the person."""
        return self.rank == 0

    def sum_numbers(self, *numbers: float) -> list[float]:
        """Add up numbers over all processes, in fp64."""
        if self.size == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [float(number) for number in total.tolist()]

    def any(self, mine: bool) -> bool:
        """Say whether it is true on any process."""
        return self.sum_numbers(float(mine))[0] > 0

    def sum_gradients(self, gradients: Iterable[torch.Tensor], *, bucket: int = 25_000_000) -> None:
        """Add up replicated gradients over all processes, in place.

        Args:
            gradients: The same tensors in the same order on every process.
            bucket: Numbers that travel at once.
        """
        if self.size == 1:
            return
        waiting: list[torch.Tensor] = []
        for gradient in gradients:
            waiting.append(gradient)
            if sum(one.numel() for one in waiting) >= bucket:
                _sum_together(waiting)
                waiting = []
        if waiting:
            _sum_together(waiting)

    def tell(self, value: Any) -> Any:
        """Give the first process's value to all, however long it takes to come; the others' is ignored."""
        if self.patient is None:
            return value
        given = [value]
        dist.broadcast_object_list(given, src=0, group=self.patient)
        return given[0]

    def collect(self, value: Any) -> list[Any]:
        """Give every process's value to the first, in order; the others get an empty list."""
        if self.patient is None:
            return [value]
        given: list[Any] | None = [None] * self.size if self.is_first else None
        dist.gather_object(value, given, dst=0, group=self.patient)
        return given or []

    @contextlib.contextmanager
    def in_turn(self, wanted: bool = True) -> Iterator[None]:
        """Let the processes of each machine through one after another; all processes must ask for it alike."""
        turns, mine = (self.size, int(os.environ.get("LOCAL_RANK", "0"))) if wanted else (0, 0)
        for _ in range(mine):
            self.wait()
        yield
        for _ in range(turns - mine):
            self.wait()

    def wait(self) -> None:
        """Wait for all processes without a limit: one of them may work for all."""
        if self.patient is not None:
            dist.barrier(group=self.patient)


def _sum_together(tensors: list[torch.Tensor]) -> None:
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    start = 0
    for tensor in tensors:
        tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
        start += tensor.numel()
