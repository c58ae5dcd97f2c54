"""Measure the time of each phase of a step: data, forward, backward, update.

On CUDA the host runs ahead of the device. Phases are therefore marked with events, which are read when the step ends,
so that nothing waits in between.
"""

from __future__ import annotations

import time
from typing import Literal

import torch

Phase = Literal["data", "forward", "backward", "update"]
PHASES: tuple[Phase, ...] = ("data", "forward", "backward", "update")


class Clock:
    """The seconds of each phase of a step, added up.

    Example:
        >>> clock = Clock(torch.device("cpu"))
        >>> clock.enter("forward"); clock.enter("backward")
        >>> sorted(clock.seconds())
        ['backward', 'data', 'forward', 'total', 'update']
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._start = time.perf_counter()
        self._marks: list[tuple[Phase | None, float | torch.cuda.Event]] = []
        self.enter("data")

    def enter(self, phase: Phase | None) -> None:
        """End the current phase and begin this one. None only ends the current one."""
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._marks.append((phase, event))
        else:
            self._marks.append((phase, time.perf_counter()))

    def seconds(self) -> dict[str, float]:
        """End the current phase, and return the seconds of each phase and of the step (`total`)."""
        self.enter(None)
        if self._cuda:
            torch.cuda.synchronize()
        totals: dict[str, float] = dict.fromkeys(PHASES, 0.0)
        for (phase, begin), (_, end) in zip(self._marks, self._marks[1:], strict=False):
            if phase is not None:
                totals[phase] += _between(begin, end)
        totals["total"] = time.perf_counter() - self._start
        return {phase: round(value, 6) for phase, value in totals.items()}


def _between(begin: float | torch.cuda.Event, end: float | torch.cuda.Event) -> float:
    if isinstance(begin, float) and isinstance(end, float):
        return end - begin
    return float(begin.elapsed_time(end)) / 1000.0  # type: ignore[union-attr, arg-type]
