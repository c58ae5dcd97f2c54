"""Run instil on the stand-in, in a fork of the test process."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tests.forks import in_fork
from tests.stand_in.device import NAME, enable
from tests.stand_in.waits import Crossing, note, recorded


def on_stand_in(work: Callable[[torch.device], Any]) -> Any:
    """Call `work` with the device in a fork, and return its result, which must be made of JSON's types."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        ended = in_fork(lambda: path.write_text(json.dumps(work(enter()))))
        assert ended.code == 0, ended.output
        return json.loads(path.read_text())


def enter() -> torch.device:
    """Register the device, and have instil take it as it takes CUDA."""
    from instil.model import loading
    from instil.training.step import optimizer, take_step

    device = enable()
    loading.DEVICES = (*loading.DEVICES, NAME)
    optimizer.FUSED_ON = optimizer.FUSED_ON | {NAME}
    # The phases of a step are timed by CUDA's events, and the step ends with CUDA's wait for them.
    clock = take_step.Clock
    take_step.Clock = lambda device: clock(torch.device("cuda"))  # type: ignore[assignment, misc]
    torch.cuda.Event = _Event  # type: ignore[assignment, misc]
    torch.cuda.synchronize = lambda device=None: note("synchronize", "torch.cuda.synchronize")  # type: ignore[assignment]
    return device


class _Event:
    """An event of CUDA: the time at which the host passed it."""

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.seconds = time.perf_counter()

    def elapsed_time(self, end: _Event) -> float:
        return (end.seconds - self.seconds) * 1000.0


def record_calls(module: Any, name: str) -> list[list[dict[str, Any]]]:
    """Replace a function of a module; return a list that gets the crossings of each of its calls, as dictionaries."""
    function, calls = getattr(module, name), list[list[dict[str, Any]]]()

    def call(*given: Any, **settings: Any) -> Any:
        with recorded() as crossings:
            result = function(*given, **settings)
        calls.append(as_json(crossings))
        return result

    setattr(module, name, call)
    return calls


def as_json(crossings: list[Crossing]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(one) for one in crossings]


def waits_of(crossings: list[dict[str, Any]]) -> list[str]:
    """Return the waits among crossings that came from a fork, in words, for an assertion that shows them."""
    return [str(found) for one in crossings if (found := Crossing(**one)).waits]
