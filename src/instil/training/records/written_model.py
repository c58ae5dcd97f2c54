"""The check at the end of every run: the written model is the trained one.

The loss of a few examples is measured on the trained model just before it is written, and on the folder loaded again.
What was merged, converted or lost in between shows as a difference.

Why: both losses come from the code of `evaluation.heldout`, which shares nothing with the trainer. Where memory holds
no second copy of the model, the run says that the check was not made.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from instil.conversation import Example
from instil.errors import TrainingError
from instil.evaluation.heldout import loss_sums
from instil.model.device_memory import free_bytes
from instil.model.folder.memory_check import count_weights
from instil.model.loading import Precision, load_model
from instil.preparation.store import ExampleStore
from instil.recipe import ModelSettings
from instil.screen import work
from instil.units import counted, loss_words

MAX_EXAMPLES, MAX_TOKENS = 64, 4096
"""How much is measured: a fraction of an evaluation."""
BOUND: dict[torch.dtype, float] = {torch.float32: 1e-3}
"""Largest difference of the two losses, as a share of the loss or of 1 if that is larger, by type of the weights."""
ROUNDED_BOUND = 0.05
"""The same for 16-bit weights, which merging rounds."""
_PRECISION: dict[torch.dtype, Precision] = {
    torch.float32: "fp32",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
}


@dataclass(frozen=True, slots=True)
class TrainedLoss:
    """The loss of the trained model, measured before it is merged and written.

    Attributes:
        loss: Weighted mean loss per trained token.
        examples: What it was measured on.
        bound: Largest difference that the written model may have.
        precision: How the written model is to compute.
        device: Where the trained model is.
    """

    loss: float
    examples: Sequence[Example]
    bound: float
    precision: Precision
    device: torch.device


def examples_to_check(heldout: ExampleStore, train: ExampleStore) -> list[Example]:
    """Return the first held-out examples, or training examples if none are held out."""
    chosen: list[Example] = []
    num_tokens = 0
    for example in heldout if len(heldout) else train:
        num_tokens += len(example.token_ids)
        if chosen and (num_tokens > MAX_TOKENS or len(chosen) == MAX_EXAMPLES):
            break
        chosen.append(example)
    return chosen


def mean_loss(model: Any, examples: Sequence[Example]) -> float:
    """Return the weighted mean loss per trained token, one example at a time."""
    weight = sum(float(sum(example.weights)) for example in examples)
    return sum(loss_sums(model, [example])[0] for example in examples) / weight


def measure_trained(model: Any, examples: Sequence[Example]) -> TrainedLoss:
    """Measure the model that is about to be merged and written.

    Args:
        model: The trained model, with its adapter if it has one.
        examples: From `examples_to_check`.
    """
    parameter = next(value for value in model.parameters() if value.is_floating_point())
    return trained_loss(mean_loss(model, examples), examples, parameter.dtype, parameter.device)


def trained_loss(loss: float, examples: Sequence[Example], dtype: torch.dtype, device: torch.device) -> TrainedLoss:
    """Return a measured loss with the difference that a written model of this type may have."""
    bound = BOUND.get(dtype, ROUNDED_BOUND) * max(1.0, abs(loss))
    return TrainedLoss(loss, examples, bound, _PRECISION.get(dtype, "fp32"), device)


@work("loading the written model to compare it")
def check_written(folder: Path, trained: TrainedLoss, *, trust_remote_code: bool) -> tuple[float | None, str]:
    """Load a written model folder and compare its loss with the trained model's.

    Args:
        folder: The model folder; it is removed if it is not what was trained.
        trained: The trained model's loss.
        trust_remote_code: Run Python code that comes with the model.

    Returns:
        The written model's loss, or None if memory holds no second copy; and a line for the user.

    Raises:
        TrainingError: If the losses differ by more than the bound.
    """
    device = _device_with_room(folder, trained)
    if device is None:
        return None, "the written model was not compared with the trained one: memory holds no second copy of it"
    settings = ModelSettings(name=str(folder.resolve()), trust_remote_code=trust_remote_code)
    model = load_model(settings, precision=trained.precision, device=device, purpose="generation")
    loss = mean_loss(model, trained.examples)
    return loss, compare_written(folder, trained, loss)


def compare_written(folder: Path, trained: TrainedLoss, loss: float, *, removes: bool = True) -> str:
    """Return a line about the losses of the written and the trained model.

    Args:
        folder: The written model folder.
        trained: The trained model's loss.
        loss: The written model's loss.
        removes: Whether this process removes the folder if the losses differ.

    Raises:
        TrainingError: If they differ by more than the bound.
    """
    what = counted(len(trained.examples), "example")
    if not abs(loss - trained.loss) <= trained.bound:
        if removes:
            shutil.rmtree(folder)
        raise TrainingError(
            f"{folder}: the written model is not what was trained: its loss on {what} is {loss_words(loss)}, the trained "
            f"model's {loss_words(trained.loss)} (a difference of {trained.bound:.2g} is allowed). It was removed. Checkpoints "
            "and adapter are intact; use the adapter, and please report this."
        )
    return f"written and loaded again: loss {loss_words(loss)} on {what}, {loss_words(trained.loss)} when trained"


def _device_with_room(folder: Path, trained: TrainedLoss) -> torch.device | None:
    """Return a device that holds the weights once more."""
    numbers, packed = count_weights(folder)
    needed = numbers * (4 if trained.precision == "fp32" else 2) + packed
    devices = dict.fromkeys((trained.device, torch.device("cpu")))
    return next((device for device in devices if free_bytes(device) > 1.2 * needed), None)
