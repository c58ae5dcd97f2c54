"""What a run writes to the disk, and whether it has room: checkpoints while it trains, then the model.

`plan` and the run card show the warning. The run itself writes whole files or none (see `files`).
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from instil.files import size_on_disk
from instil.recipe import CheckpointSettings
from instil.run_warning import RunWarning
from instil.training.memory.estimate import STATE_BYTES, Sizes
from instil.training.step.precision import Precision
from instil.units import byte_size, counted


@dataclass(frozen=True, slots=True)
class DiskNeed:
    """Bytes that a run writes.

    Attributes:
        checkpoint: One checkpoint: the trained weights and the optimizer's state.
        num_checkpoints: Checkpoints that exist at one time; the oldest is removed after the newest is written.
        model: The model folder, and the adapter.
    """

    checkpoint: int
    num_checkpoints: int
    model: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.checkpoint * self.num_checkpoints + self.model

    @property
    def words(self) -> str:
        """All of it, in words."""
        checkpoints = f"{counted(self.num_checkpoints, 'checkpoint')} of {byte_size(self.checkpoint)}"
        return f"{byte_size(self.total)}: {checkpoints}, model {byte_size(self.model)}"


def disk_need(
    sizes: Sizes,
    precision: Precision,
    *,
    optimizer: str,
    checkpoint: CheckpointSettings,
    num_saves: int,
    is_adapter: bool,
) -> DiskNeed:
    """Estimate what a run writes.

    Args:
        sizes: The model.
        precision: How the run computes.
        optimizer: Its name in the recipe.
        checkpoint: The recipe's `checkpoint`.
        num_saves: Checkpoints that the run writes in all.
        is_adapter: Whether the run trains an adapter, which is written besides the model.
    """
    small = 4 if precision.compute == torch.float32 else 2
    moved = 4 if precision.masters else small  # bytes of a number that the optimizer moves
    one = sizes.trained * moved + int(STATE_BYTES[optimizer] * sizes.trained * moved / 4)
    kept = checkpoint.keep_last + checkpoint.keep_best + 1
    model = sizes.parameters * small + (sizes.trained * 4 if is_adapter else 0)
    return DiskNeed(one, min(kept, max(1, num_saves)), model)


def num_saves(num_steps: int, every: int) -> int:
    """Return how many checkpoints a run writes; the last step has one.

    Example:
        >>> num_saves(95, 10), num_saves(4, 10)
        (10, 1)
    """
    return math.ceil(num_steps / every)


def disk_warnings(need: DiskNeed, output: Path) -> list[RunWarning]:
    """Return a warning if the disk of the run folder has too little room. What is in the folder counts as written.

    Args:
        need: What the run writes.
        output: The run folder; it need not exist.
    """
    existing = next(path for path in (output.absolute(), *output.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    written = size_on_disk(output) if output.is_dir() else 0
    if need.total <= free + written:
        return []
    return [
        RunWarning(
            "disk",
            f"{existing}: {byte_size(free)} free, and the run writes {need.words}. Free some space, set another "
            "output, or lower checkpoint.keep_last",
            need.total,
        )
    ]
