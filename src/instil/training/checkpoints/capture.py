"""Take what learns apart into a checkpoint's pieces, and put it together again.

Between the learner and `checkpoint`, which knows neither models nor shards. Replicated weights are written by the first process
alone; of sharded ones each process writes and reads its own rows, whoever wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.distributed.tensor import DTensor, Shard

from instil.errors import CheckpointError
from instil.training.checkpoints.checkpoint import Checkpoint, Piece, Progress, Snapshot
from instil.training.step.optimizer import read_state, write_state
from instil.training.step.precision import Weights
from instil.training.step.take_step import Learner


def take_snapshot(learner: Learner, progress: Progress, *, identity: Mapping[str, Any]) -> Snapshot:
    """Give what this process puts into a checkpoint."""
    tensors, numbers = read_state(learner.optimizers, learner.weights.by_name)
    first = learner.ranks.is_first
    return Snapshot(
        progress,
        {name: piece_of(tensor) for name, tensor in learner.weights.by_name.items() if first or is_shard(tensor)},
        {name: piece_of(tensor) for name, tensor in tensors.items() if first or is_shard(tensor)},
        numbers,
        identity,
    )


def is_shard(tensor: torch.Tensor) -> bool:
    """Say whether this process holds only rows of a tensor."""
    return isinstance(tensor, DTensor) and any(isinstance(placement, Shard) for placement in tensor.placements)


def piece_of(tensor: torch.Tensor) -> Piece:
    """Give the rows of a tensor that this process holds."""
    if not isinstance(tensor, DTensor):
        return Piece.whole(tensor)
    start, _ = rows_here(tensor)
    return Piece(tensor.to_local(), start, tuple(tensor.shape))


def rows_here(tensor: torch.Tensor) -> tuple[int, int | None]:
    """Give the rows of a tensor that this process holds, as a half-open range; None for all."""
    if not is_shard(tensor):
        return 0, None
    assert isinstance(tensor, DTensor)
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    local, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return offset[0], offset[0] + local[0]


@torch.no_grad()
def restore_weights(weights: Weights, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's weights into the model that they are of.

    Raises:
        CheckpointError: If the checkpoint is of another model.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in weights.by_name.items()}
    found = checkpoint.shapes("weights")
    if expected != found:
        odd = sorted(set(expected.items()) ^ set(found.items()))
        raise CheckpointError(
            f"{checkpoint.folder}: its trained tensors are not this model's (the first that differs is {odd[0][0]}); "
            "resume with the recipe that the run was started with"
        )
    for name, weight in weights.by_name.items():
        start, stop = rows_here(weight)
        local = weight.to_local() if isinstance(weight, DTensor) else weight
        if stop is None or stop > start:
            local.copy_(checkpoint.read("weights", name, start, stop))
    weights.refresh_model()


@torch.no_grad()
def restore_optimizers(learner: Learner, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's optimizer state into fresh optimizers."""
    tensors: dict[str, torch.Tensor] = {}
    for where, shape in checkpoint.shapes("optimizer").items():
        weight = learner.weights.by_name[where.rpartition("::")[0]]
        if is_shard(weight) and shape == tuple(weight.shape):
            tensors[where] = _shard_like(weight, where, checkpoint)
        else:
            tensors[where] = checkpoint.read("optimizer", where).to(_state_device(weight, shape))
    write_state(learner.optimizers, learner.weights.by_name, tensors=tensors, numbers=checkpoint.numbers)


def _shard_like(weight: torch.Tensor, where: str, checkpoint: Checkpoint) -> torch.Tensor:
    assert isinstance(weight, DTensor)
    start, stop = rows_here(weight)
    if stop == start:
        rows = torch.empty_like(weight.to_local())
    else:
        rows = checkpoint.read("optimizer", where, start, stop).to(weight.to_local().device)
    return DTensor.from_local(
        rows, weight.device_mesh, weight.placements, run_check=False, shape=weight.shape, stride=weight.stride()
    )


def _state_device(weight: torch.Tensor, shape: tuple[int, ...]) -> torch.device:
    # A number without dimensions (AdamW's step) goes where the optimizer wants it; load_state_dict moves it.
    return weight.device if shape else torch.device("cpu")
