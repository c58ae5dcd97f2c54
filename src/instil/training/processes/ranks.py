"""The processes of a run, and every message between them.

Everything that the loop needs from other processes is here: sums, broadcasts, barriers. With one process each of them
does nothing, so the loop has no branches for it.

Why: decisions that all processes must share (stop, skip a step) travel as one small fp64 sum a step, not as broadcasts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from instil.model.attention.sequence import SequenceGroup


@dataclass(frozen=True, slots=True)
class Ranks:
    """One process among those of a run.

    Attributes:
        rank: Number of this process, counted over all machines.
        size: Number of processes.
        device: Where this process computes.
        patient: A process group without a timeout, for work that one process does for all. None with one process.
        sequence: The processes that compute the same micro-batches as this one, each a part of their tokens. None if
            each process has micro-batches of its own.
    """

    rank: int
    size: int
    device: torch.device
    patient: dist.ProcessGroup | None = None
    sequence: SequenceGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run folder and prints."""
        return self.rank == 0

    @property
    def num_sharing(self) -> int:
        """Number of processes that compute the same micro-batches, each a part of their tokens."""
        return 1 if self.sequence is None else self.sequence.size

    @property
    def num_shares(self) -> int:
        """Number of shares that a step is cut into, each with micro-batches of its own."""
        return self.size // self.num_sharing

    @property
    def share(self) -> int:
        """Number of the share that this process computes, alone or with others."""
        return self.rank // self.num_sharing

    @property
    def counts(self) -> bool:
        """Whether this process counts what all processes of its share know; one of them does."""
        return self.sequence is None or self.sequence.rank == 0

    def sum_numbers(self, *numbers: float) -> list[float]:
        """Return the sum of each number over all processes, in fp64."""
        if self.size == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [float(number) for number in total.tolist()]

    def any(self, mine: bool) -> bool:
        """Return True on every process if `mine` is true on any."""
        return self.sum_numbers(float(mine))[0] > 0

    def sum_gradients(self, gradients: Iterable[torch.Tensor], *, bucket: int = 25_000_000) -> None:
        """Sum replicated gradients over all processes, in place.

        Args:
            gradients: The same tensors in the same order on every process.
            bucket: Numbers that are sent at once.
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
        """Return the first process's value on every process: a broadcast without timeout."""
        if self.patient is None:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.patient)
        return values[0]

    def collect(self, value: Any) -> list[Any]:
        """Return every process's value on the first process, by rank. The others get an empty list."""
        if self.patient is None:
            return [value]
        values: list[Any] | None = [None] * self.size if self.is_first else None
        dist.gather_object(value, values, dst=0, group=self.patient)
        return values or []

    @contextlib.contextmanager
    def in_turn(self, enabled: bool = True) -> Iterator[None]:
        """Let the processes of each machine enter the context one after another.

        Args:
            enabled: Whether they take turns; must be the same on all processes.
        """
        # Every process passes one barrier per process: its local rank of them before its turn, the rest after it.
        turns, mine = (self.size, int(os.environ.get("LOCAL_RANK", "0"))) if enabled else (0, 0)
        for _ in range(mine):
            self.wait()
        yield
        for _ in range(turns - mine):
            self.wait()

    def wait(self) -> None:
        """Wait for all processes, without a timeout (a barrier)."""
        if self.patient is not None:
            dist.barrier(group=self.patient)


def _sum_together(tensors: list[torch.Tensor]) -> None:
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    start = 0
    for tensor in tensors:
        tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
        start += tensor.numel()
