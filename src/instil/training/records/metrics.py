"""The metrics file of a run: ``metrics.jsonl``, one JSON object per step and per evaluation.

Everything that later shows or compares runs reads this file only.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Required, TextIO, TypedDict

from instil.errors import RunError
from instil.files import sync_path, write_text_atomic

OF_SAMPLES = frozenset({"answer", "tasks", "failures"})
"""Keys of the lines that are written when sample answers are drawn."""


class Metric(TypedDict, total=False):
    """A line of `metrics.jsonl`. Only `step` is in every line; steps have the losses, evaluations `heldout_loss`.

    Attributes:
        step: The step, from 1; 0 for what is measured before training.
        epoch: Pass over the data that the step belongs to, from 0.
        examples: Number of examples of the step.
        loss: Weighted mean loss of the step's trained tokens before the update, in nats a token; of preferences, the
            objective's mean over pairs.
        learning_rate: Learning rate of the step.
        gradient_norm: Global norm of the gradient before clipping.
        tokens: Number of tokens of the step, context included.
        trained_tokens: Number of tokens with a weight above 0.
        micro_batch_tokens: Largest number of tokens of one forward pass.
        moved: Whether the weights moved; False if the step was skipped.
        memory_mb: Memory of the process, or of its GPU, in MB of 2**20 bytes.
        seconds: Seconds by phase: data, forward, backward, update, total; of an evaluation, evaluation.
        heldout_loss: Loss on the held-out examples, in nats a token; of preferences, the objective's mean over pairs.
        best: Whether it is the lowest so far.
        tasks: Figures of the recipe's tasks: value, low, high (their 95% interval) and n.
        accuracy: Of preferences: share of pairs whose chosen answer has the higher reward, ties counted half. At the
            start all rewards are 0 up to rounding, which then decides it.
        margin: Of preferences: mean of chosen minus rejected reward.
        chosen_reward: Of preferences: mean reward of the chosen answers.
        rejected_reward: Of preferences: mean reward of the rejected answers.
        chosen_tokens: Of preferences: mean length of the chosen answers.
        rejected_tokens: Of preferences: mean length of the rejected answers.
        drift: Of preferences: mean log-probability ratio to the reference, in nats a token.
        heldout_accuracy: The same on held-out pairs.
        heldout_margin: The same on held-out pairs.
        heldout_chosen_reward: The same on held-out pairs.
        heldout_rejected_reward: The same on held-out pairs.
        heldout_chosen_tokens: The same on held-out pairs.
        heldout_rejected_tokens: The same on held-out pairs.
        heldout_drift: The same on held-out pairs.
        failures: What failed when answers were drawn, one line each.
    """

    step: Required[int]
    epoch: int
    examples: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    trained_tokens: int
    micro_batch_tokens: int
    moved: bool
    memory_mb: float
    seconds: dict[str, float]
    heldout_loss: float
    best: bool
    accuracy: float
    margin: float
    chosen_reward: float
    rejected_reward: float
    chosen_tokens: float
    rejected_tokens: float
    drift: float
    heldout_accuracy: float
    heldout_margin: float
    heldout_chosen_reward: float
    heldout_rejected_reward: float
    heldout_chosen_tokens: float
    heldout_rejected_tokens: float
    heldout_drift: float
    tasks: dict[str, Any]
    failures: list[str]


class Metrics:
    """The open `metrics.jsonl` of a run, one JSON object a line, in the order of the steps."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO = path.open("a", encoding="utf-8")

    def add(self, line: Mapping[str, Any]) -> None:
        """Append a line. The operating system has it when this returns."""
        self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=True) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Wait until all lines are on the disk."""
        sync_path(self._path)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read a run's metrics, without the lines that a crash or a disk damaged.

    Args:
        path: The `metrics.jsonl`. A missing file gives no lines.

    Raises:
        RunError: If it cannot be read, or an intact line is no JSON object.
    """
    lines: list[dict[str, Any]] = []
    for number, value in _intact_lines(path):
        if not isinstance(value, dict):
            raise RunError(
                f"{path}:{number}: a JSON {type(value).__name__}. Expected an object. Fix the line, or name another run."
            )
        lines.append(value)
    return lines


def _intact_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each line that is valid JSON.

    Only a newline ends a line, as answers may hold what Unicode calls a line separator.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}). Expected JSON lines. Name another run.") from None
    for number, line in enumerate(text.split("\n"), start=1):
        with contextlib.suppress(ValueError):
            yield number, json.loads(line)


def rewind_lines(path: Path, *, step: int, sampled: int) -> int:
    """Remove the lines of later steps and damaged ones, so that a resumed run writes each step once.

    Args:
        path: A file of JSON lines with a `step`. A missing file is left alone.
        step: The last step to keep.
        sampled: The last step whose sample answers, tasks and failures are kept; later ones are made again.

    Returns:
        The number of training steps that are left in the file.
    """
    if not path.exists():
        return 0
    lines = (line for _, line in _intact_lines(path) if isinstance(line, dict))
    kept = [
        line
        for line in lines
        if isinstance(line.get("step"), int) and line["step"] <= (sampled if OF_SAMPLES & line.keys() else step)
    ]
    write_text_atomic(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))
    return len({line["step"] for line in kept if "loss" in line})
