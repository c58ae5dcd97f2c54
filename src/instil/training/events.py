"""What happens in a run, one record at a time: the loop yields them, and ``instil.train(..., follow=True)`` passes them on.

Why: records instead of callbacks, so that whoever follows a run keeps control in a plain ``for`` loop.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from instil.training.records.run_folder import Run


@dataclass(frozen=True, slots=True)
class StepTaken:
    """A step of the optimizer.

    Attributes:
        step: Its number, from 1.
        epoch: Pass over the data that it belongs to, from 0.
        loss: Weighted mean loss of its trained tokens before the update, in nats a token; of preferences, the
            objective's mean over pairs.
        learning_rate: Learning rate of the step.
        gradient_norm: Global norm before clipping.
        tokens: Tokens of the step, context included.
        trained_tokens: Tokens with a weight above 0.
        moved: Whether the weights moved; False if the step was skipped.
        seconds: How long the step took.
        accuracy: Share of pairs whose chosen answer has the higher reward; None where a run imitates answers.
    """

    step: int
    epoch: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    trained_tokens: int
    moved: bool
    seconds: float
    accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A held-out loss.

    Attributes:
        step: The step before it; 0 before training.
        heldout_loss: Loss on the held-out examples, in nats a token; of preferences, the objective's mean over pairs.
        is_best: Whether it is the lowest so far.
        accuracy: As in `StepTaken`, on the held-out pairs.
    """

    step: int
    heldout_loss: float
    is_best: bool
    accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a run, the last record.

    Attributes:
        run: The run. It is not `finished` if a signal stopped it.
    """

    run: Run


Event: TypeAlias = StepTaken | Evaluated | Ended


class WrittenEvents:
    """The events that other processes write to a run's metrics file, from now on.

    Args:
        path: The `metrics.jsonl`; it may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = set(self._lines())
        self._size = -1

    def new(self) -> Iterator[Event]:
        """Yield what was written since the last call."""
        size = self._path.stat().st_size if self._path.exists() else -1
        if size == self._size:
            return
        self._size = size
        for line in self._lines():
            if line not in self._seen:
                self._seen.add(line)
                event = _event_of(json.loads(line))
                if event is not None:
                    yield event

    def _lines(self) -> list[str]:
        """Return the complete lines; the last one may still be being written."""
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return text.split("\n")[:-1]


def _event_of(line: dict[str, Any]) -> Event | None:
    if "heldout_loss" in line:
        return Evaluated(line["step"], line["heldout_loss"], line["best"], line.get("heldout_accuracy"))
    if "loss" not in line:
        return None
    names = ("step", "epoch", "loss", "learning_rate", "gradient_norm", "tokens", "trained_tokens", "moved")
    return StepTaken(
        **{name: line[name] for name in names}, seconds=line["seconds"]["total"], accuracy=line.get("accuracy")
    )
