"""Split what trains into the pieces of a checkpoint, and restore it from them.

Between the learner and `checkpoint`, which knows neither models nor shards. The first process alone writes replicated
weights. Of sharded weights every process writes and reads its own rows, whichever process wrote those it reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.distributed.tensor import DTensor, Shard

from instil.errors import CheckpointError
from instil.training.checkpoints.blocks import SCALES, TABLES, read_moments, scales_before
from instil.training.checkpoints.checkpoint import Checkpoint, Piece, Progress, Snapshot
from instil.training.step.learner import Learner
from instil.training.step.optimizer import read_state, write_state
from instil.training.step.precision import Weights


def take_snapshot(learner: Learner, progress: Progress, *, identity: Mapping[str, Any]) -> Snapshot:
    """Return what this process puts into a checkpoint."""
    weights, is_first = learner.weights.by_name, learner.ranks.is_first
    tensors, numbers = read_state(learner.optimizers, weights)
    pieces = {name: piece_of(tensor) for name, tensor in weights.items() if is_first or is_shard(tensor)}
    pieces_of_state: dict[str, Piece] = {}
    for where, tensor in tensors.items():
        name, _, key = where.rpartition("::")
        piece = _piece_of_rows(key, tensor, weights[name])
        if piece is None and (is_first or is_shard(tensor)):
            piece = piece_of(tensor)
        if piece is not None:
            pieces_of_state[where] = piece
    return Snapshot(progress, pieces, pieces_of_state, numbers, identity)


def is_shard(tensor: torch.Tensor) -> bool:
    """Return True if this process holds only some rows of a tensor."""
    return isinstance(tensor, DTensor) and any(isinstance(placement, Shard) for placement in tensor.placements)


def piece_of(tensor: torch.Tensor) -> Piece:
    """Return the rows of a tensor that this process holds."""
    if not isinstance(tensor, DTensor):
        return Piece.whole(tensor)
    start, _ = rows_here(tensor)
    return Piece(tensor.to_local(), start, tuple(tensor.shape))


def _piece_of_rows(key: str, tensor: torch.Tensor, weight: torch.Tensor) -> Piece | None:
    """Return the piece of a plain tensor with the state of this process's rows of a sharded weight; None for others.

    The 8-bit optimizer has such state, and what is kept in the machine's memory.
    """
    if not isinstance(weight, DTensor) or not is_shard(weight) or isinstance(tensor, DTensor):
        return None
    start, _ = rows_here(weight)
    if key in SCALES.values():
        num_ranks, width = weight.device_mesh.size(), math.prod(weight.shape[1:])
        before, total = scales_before(weight.shape[0], width, num_ranks=num_ranks, start=start)
        return Piece(tensor, before, (total,))
    if key in TABLES.values() or tensor.shape != weight.to_local().shape:
        return None
    return Piece(tensor, start, tuple(weight.shape))


def rows_here(tensor: torch.Tensor) -> tuple[int, int | None]:
    """Return the rows that this process holds as ``(start, stop)``, half-open. `stop` is None for all rows."""
    if not is_shard(tensor):
        return 0, None
    assert isinstance(tensor, DTensor)
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    local, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return offset[0], offset[0] + local[0]


@torch.no_grad()
def restore_weights(weights: Weights, checkpoint: Checkpoint) -> None:
    """Load a checkpoint's weights into the model.

    Raises:
        CheckpointError: If the checkpoint is of another model.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in weights.by_name.items()}
    stored = checkpoint.shapes("weights")
    if expected != stored:
        differing = sorted(set(expected.items()) ^ set(stored.items()))
        raise CheckpointError(
            f"{checkpoint.folder}: its trained tensors are not this model's "
            f"(the first that differs is {differing[0][0]}). "
            "Expected the tensors of the run. Resume with the recipe that the run was started with."
        )
    for name, weight in weights.by_name.items():
        start, stop = rows_here(weight)
        local = weight.to_local() if isinstance(weight, DTensor) else weight
        if stop is None or stop > start:  # a small tensor leaves some processes without a row
            local.copy_(checkpoint.read("weights", name, start, stop))
    weights.refresh_model()


@torch.no_grad()
def restore_optimizers(learner: Learner, checkpoint: Checkpoint) -> bool:
    """Load a checkpoint's optimizer state into fresh optimizers.

    Returns:
        Whether moments of 8 bits were packed again on any process, because its blocks begin elsewhere.
    """
    packed_again = False
    # One after another: where the state is kept in the machine's memory, the device has room for one of them.
    for optimizer in learner.optimizers:
        its_weights = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        some = {name: weight for name, weight in learner.weights.by_name.items() if id(weight) in its_weights}
        tensors, again = _read_state_of(some, checkpoint)
        write_state([optimizer], some, tensors=tensors, numbers=checkpoint.numbers)
        packed_again = packed_again or again
    return learner.ranks.any(packed_again)


def _read_state_of(weights: Mapping[str, torch.Tensor], checkpoint: Checkpoint) -> tuple[dict[str, torch.Tensor], bool]:
    """Return the state of some weights as far as this process holds it, and whether moments were packed again."""
    tensors: dict[str, torch.Tensor] = {}
    packed_again = False
    shapes = checkpoint.shapes("optimizer")
    for where, shape in shapes.items():
        name, _, key = where.rpartition("::")
        weight = weights.get(name)
        if weight is None or key in SCALES.values():  # another's, or read with the moments
            continue
        if key in SCALES:
            its_scales = f"{name}::{SCALES[key]}" if f"{name}::{SCALES[key]}" in shapes else None
            read, again = _read_moments(weight, where, its_scales, checkpoint)
            tensors |= read
            packed_again = packed_again or again
        elif is_shard(weight) and shape == tuple(weight.shape):
            tensors[where] = _shard_like(weight, where, checkpoint)
        else:
            tensors[where] = checkpoint.read("optimizer", where).to(_state_device(weight, shape))
    return tensors, packed_again


def _read_moments(
    weight: torch.Tensor, where: str, its_scales: str | None, checkpoint: Checkpoint
) -> tuple[dict[str, torch.Tensor], bool]:
    """Return moments of the 8-bit optimizer with their scales, if they have some, and whether they were packed again."""
    name, _, key = where.rpartition("::")
    start, stop = rows_here(weight)
    if stop == start:
        return {}, False
    if its_scales is None:  # a small weight, whose moments are fp32
        return {where: checkpoint.read("optimizer", where, start, stop).to(weight.device)}, False
    table = checkpoint.read("optimizer", f"{name}::{TABLES[key]}")
    stop = weight.shape[0] if stop is None else stop
    codes, scales, again = read_moments(checkpoint, name, key, start=start, stop=stop, table=table)
    return {where: codes.to(weight.device), its_scales: scales.to(weight.device)}, again


def _shard_like(weight: torch.Tensor, where: str, checkpoint: Checkpoint) -> torch.Tensor:
    start, stop = rows_here(weight)
    state = torch.empty_like(weight)  # with the device of the rows, which may not be that of the processes
    assert isinstance(state, DTensor)
    if stop != start:
        state.to_local().copy_(checkpoint.read("optimizer", where, start, stop))
    return state


def _state_device(weight: torch.Tensor, shape: tuple[int, ...]) -> torch.device:
    # load_state_dict moves a number without dimensions (AdamW's step) to where the optimizer needs it.
    return weight.device if shape else torch.device("cpu")
