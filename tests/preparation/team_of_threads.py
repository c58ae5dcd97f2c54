"""A team of processes, played by threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from instil.preparation.prepare import Prepared


@dataclass
class Threads:
    """What the members of a team share."""

    size: int
    barrier: threading.Barrier = field(init=False)
    slots: list[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.barrier = threading.Barrier(self.size, timeout=60)
        self.slots = [None] * self.size

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self.slots[rank] = value
        self.barrier.wait()
        seen = list(self.slots)
        self.barrier.wait()
        return seen


@dataclass
class Member:
    """One of them."""

    rank: int
    threads: Threads

    @property
    def size(self) -> int:
        return self.threads.size

    def tell(self, value: Any) -> Any:
        return self.threads.exchange(self.rank, value)[0]

    def collect(self, value: Any) -> list[Any]:
        seen = self.threads.exchange(self.rank, value)
        return seen if self.rank == 0 else []


def together(size: int, work: Callable[[Member], Prepared]) -> list[Prepared | BaseException]:
    threads = Threads(size)
    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(work, Member(rank, threads)) for rank in range(size)]
        return [future.exception() or future.result() for future in futures]
