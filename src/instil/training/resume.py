"""Resume a run: which settings may change, what has to be the same, and where it continues.

Why: a resumed run starts like a new one and then loads the latest intact checkpoint. There is no second path through
setup that could behave differently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from instil.errors import CheckpointError, RunError
from instil.recipe import Recipe
from instil.training.checkpoints.capture import restore_optimizers, restore_weights
from instil.training.checkpoints.checkpoint import Checkpoint, Progress
from instil.training.preflight import Preflight
from instil.training.records.run_settings import shorten_sources
from instil.training.step.learner import Learner

FREE = ("parallel", "checkpoint", "tracking", "threads", "evaluate", "output", "device")
"""Groups and settings that a resumed run may change: they do not decide what the steps so far would have computed.

Some of them do decide what comes: when the run ends (`evaluate.patience`), which weights it keeps
(`checkpoint.final`), and its last bits (`training.deterministic`).
"""
FREE_DATA = ("store", "workers", "cluster")
FREE_TRAINING = (
    "micro_batch_tokens",
    "gradient_checkpointing",
    "offload_activations",
    "compile",
    "on_nonfinite",
    "deterministic",
)


def resumed_recipe(requested: Recipe, saved: Recipe, *, folder: Path) -> Recipe:
    """Return the saved recipe of a run with the settings that may change taken from the requested one.

    All other settings must have their saved values, as far as the requested recipe sets them.

    Args:
        requested: The recipe that the user resumes with.
        saved: The resolved recipe in the run folder.
        folder: The run folder, for messages.

    Raises:
        RunError: If a setting that decides the result differs; the message names it.
    """
    now, before = requested.model_dump(mode="json"), saved.model_dump(mode="json")
    changes: dict[str, Any] = {}
    for key in _keys(requested.model_dump(exclude_unset=True)):
        is_free = key[0] in FREE or key[-1] in {"training": FREE_TRAINING, "data": FREE_DATA}.get(key[0], ())
        value, old = _at(now, key), _at(before, key)
        if is_free:
            _put(changes, key, value)
        elif value != old and value not in (None, "auto"):  # a setting left open keeps what the run resolved
            raise RunError(
                f"{folder}: {'.'.join(key)} is {shorten_sources(value)!r}, but the run was started with "
                f"{shorten_sources(old)!r}, and a resumed run must keep it. "
                f"Undo the change, or start another run from this one's model: --model.name {folder} --output OTHER."
            )
    return saved.override(changes) if changes else saved


def _keys(values: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the settings that were set: group and name, or the name alone if it has no group."""
    return [
        key
        for group, value in values.items()
        for key in ([(group, name) for name in value] if isinstance(value, Mapping) else [(group,)])
    ]


def _at(values: Any, key: tuple[str, ...]) -> Any:
    for part in key:
        values = values[part]
    return values


def _put(values: dict[str, Any], key: tuple[str, ...], value: Any) -> None:
    for part in key[:-1]:
        values = values.setdefault(part, {})
    values[key[-1]] = value


def identity_of(preflight: Preflight, *, num_trained: int) -> dict[str, Any]:
    """Return what must be equal for a checkpoint to belong to a run; each checkpoint stores it.

    Args:
        preflight: What is known of the run.
        num_trained: Numbers that train.
    """
    order, objective = preflight.order, preflight.recipe.training.objective
    return {
        "data": preflight.prepared.fingerprint,
        "examples": order.num_examples,
        "batch_size": order.batch_size,
        "steps": order.num_steps,
        "seed": order.seed,
        "precision": preflight.precision.name,
        "optimizer": preflight.recipe.optimizer.name,
        "trained": num_trained,
        **({} if objective == "sft" else {"objective": objective}),
    }


def restore(
    learner: Learner, checkpoint: Checkpoint, *, identity: Mapping[str, Any], say: Callable[[str], None]
) -> Progress:
    """Load a checkpoint into fresh weights and optimizers.

    Args:
        learner: What trains.
        checkpoint: An intact checkpoint.
        identity: What must be equal, from `identity_of`.
        say: Prints a line for the user.

    Returns:
        How far the run was.

    Raises:
        CheckpointError: If it belongs to another run.
    """
    for key, value in identity.items():
        before = checkpoint.identity.get(key)
        if before != value:
            raise CheckpointError(
                f"{checkpoint.folder}: its {key} is {before!r}, this run's is {value!r}. "
                "Expected the data and settings that the run was started with. Restore them, or set another output."
            )
    restore_weights(learner.weights, checkpoint)
    if restore_optimizers(learner, checkpoint):
        say(
            f"{checkpoint.folder}: the optimizer's 8-bit state was packed again, as its blocks begin elsewhere with "
            "this number of processes; results differ by the rounding of 8 bits"
        )
    return checkpoint.progress


def with_micro_batches(progress: Progress, *, requested: int | Literal["auto"], planned: int) -> Progress:
    """Keep the size of micro-batches that the run had, unless the recipe now requests another than it did then.

    Args:
        progress: How far the run is.
        requested: The recipe's `training.micro_batch_tokens`.
        planned: What fits into memory now.
    """
    request = 0 if requested == "auto" else requested
    if progress.micro_batch_tokens and progress.asked_tokens == request:
        return progress
    return progress.with_(micro_batch_tokens=planned, asked_tokens=request)
