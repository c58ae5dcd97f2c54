"""Stop a run in the middle of a step, as Ctrl-C or a supervisor does."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from tests.training.command_line import (
    exit_code,
    losses_of,
)

from instil.training.checkpoints.retention import step_of
from instil.training.records.run_folder import Run


def rewind(run: Run, to_step: int, folder: Path) -> None:
    """Copy a run as if it had been killed just after a checkpoint."""
    shutil.copytree(run.folder, folder)
    (folder / "results.json").unlink()
    shutil.rmtree(folder / "model")
    for path in (folder / "checkpoints").iterdir():
        if step_of(path) > to_step:
            shutil.rmtree(path)


def _num_steps(folder: Path) -> int:
    """Return how many steps a run has done, none before its folder is there."""
    return len(losses_of(Run(folder, False, {}))) if (folder / "metrics.jsonl").exists() else 0


def wait_for_steps(folder: Path, more_than: int = 0) -> int:
    """Wait until a run in another process has done more steps than that; return their number."""
    for _ in range(1200):
        steps = _num_steps(folder)
        if steps > more_than:
            return steps
        time.sleep(0.1)
    raise AssertionError("the run took no step in two minutes")


def killed_after(child: int, folder: Path, *, steps: int, seconds: float) -> bool:
    """Kill a run in a fork some steps and seconds after its first new step; return whether it was still there to kill."""
    before = _num_steps(folder)
    for _ in range(24_000):
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        if _num_steps(folder) > before + steps:
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)
            return os.WIFSIGNALED(os.waitpid(child, 0)[1])
        time.sleep(0.005)
    raise AssertionError("the run took no step in two minutes")


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGTERM) -> None:
    """Send this process a signal while a step is computed."""
    from instil.training import loop

    take_step = loop.take_step

    def and_signal(learner: Any, members: Any, **settings: Any) -> Any:
        if members.step == step:
            os.kill(os.getpid(), number)
        return take_step(learner, members, **settings)

    monkeypatch.setattr(loop, "take_step", and_signal)


def interrupted(monkeypatch: pytest.MonkeyPatch, recipe: Path, step: int, number: int = signal.SIGTERM) -> None:
    """Train until a signal arrives in a step; the exit code must be the signal's."""
    with monkeypatch.context() as patch:
        stop_after(patch, step, number)
        assert exit_code("train", str(recipe)) == 128 + number
