"""Three weights moved by 8-bit AdamW on one process or on two, saved and continued on another number of processes."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from instil.training.checkpoints.capture import restore_optimizers, restore_weights, take_snapshot
from instil.training.checkpoints.checkpoint import Progress, open_checkpoint, save_checkpoint, step_folder
from instil.training.processes.ranks import Ranks
from instil.training.step.optimizer import build_optimizers

SHAPES = {"even": (64, 96), "uneven": (65, 70), "small": (9, 5), "one row": (1, 5000)}
"""Two processes cut `even` between two blocks of 256 and `uneven` within one. `small` has moments in fp32."""
HALF = 4


class _Weights:
    def __init__(self, by_name: dict[str, torch.Tensor]) -> None:
        self.by_name = by_name

    def refresh_model(self) -> None:
        """There is no model."""


def make(ranks: Ranks) -> Any:
    """Return what `capture` needs of a learner, with fresh weights."""
    torch.manual_seed(0)
    weights: dict[str, torch.Tensor] = {}
    for name, shape in SHAPES.items():
        whole = torch.randn(shape)
        if ranks.size > 1:
            whole = distribute_tensor(whole, init_device_mesh("cpu", (ranks.size,)), [Shard(0)])
        weights[name] = torch.nn.Parameter(whole)
    kinds = dict.fromkeys(weights, "matrix")
    optimizers = build_optimizers(weights, kinds, name="adamw_8bit", lr=1e-2, weight_decay=0.1)  # type: ignore[arg-type]
    return SimpleNamespace(weights=_Weights(weights), optimizers=optimizers, ranks=ranks)


def move(learner: Any, *, start: int, stop: int) -> None:
    """Move the weights by some steps whose gradients depend on the step and the place alone."""
    for step in range(start, stop):
        for weight in learner.weights.by_name.values():
            whole = torch.sin(torch.arange(weight.numel()) * (0.7 + step)).view(weight.shape) * 10.0 ** (step % 3)
            if isinstance(weight, DTensor):
                whole = distribute_tensor(whole, weight.device_mesh, weight.placements)
            weight.grad = whole
        for optimizer in learner.optimizers:
            optimizer.step()


def save(learner: Any, folder: Path, step: int) -> None:
    ranks = learner.ranks
    barrier = dist.barrier if ranks.size > 1 else lambda: None
    snapshot = take_snapshot(learner, Progress(step=step), identity={})
    save_checkpoint(folder, snapshot, rank=ranks.rank, num_ranks=ranks.size, barrier=barrier)


def go_on(folder: Path, ranks: Ranks) -> tuple[Any, bool]:
    """Return a learner that is where a checkpoint is, and whether its moments were packed again."""
    learner = make(ranks)
    checkpoint = open_checkpoint(step_folder(folder, HALF))
    restore_weights(learner.weights, checkpoint)
    return learner, restore_optimizers(learner, checkpoint)


def main(folder: str) -> None:
    """As one of two processes: train and save, continue from there, and continue what one process saved."""
    place = Path(folder)
    dist.init_process_group("gloo")
    ranks = Ranks(int(os.environ["RANK"]), 2, torch.device("cpu"))
    learner = make(ranks)
    move(learner, start=0, stop=HALF)
    save(learner, place / "two", HALF)
    move(learner, start=HALF, stop=2 * HALF)
    save(learner, place / "two", 2 * HALF)
    for whose in ("two", "one"):
        learner, again = go_on(place / whose, ranks)
        assert again == (whose == "one")
        move(learner, start=HALF, stop=2 * HALF)
        save(learner, place / f"two-from-{whose}", 2 * HALF)
    dist.destroy_process_group()
