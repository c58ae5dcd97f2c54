"""Which checkpoints a run has: those that stay, the latest that is whole, the best.

Beside `checkpoint`, which writes and reads one. Questionable on purpose: damaged ones are left where they are until another one has been written,
for a disk that cannot be read today may be read tomorrow.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from instil.errors import CheckpointError
from instil.files import remove_folder
from instil.training.checkpoints.checkpoint import Checkpoint, Progress, open_checkpoint, step_folder

STEP = re.compile(r"step-\d{6,}")
"""Name of a checkpoint's folder; a copy that a person made under another name is left alone."""


def prune_checkpoints(checkpoints: Path, *, newest: int, keep_last: int, keep_step: int | None) -> None:
    """Remove all checkpoints but the `keep_last` up to a step, and that of `keep_step`.

    Args:
        checkpoints: Folder of the run's checkpoints.
        newest: Step of the checkpoint that has just been written. Those of later steps were found damaged when the run went on from
            one before them; they must not take the place of whole ones.
        keep_last: How many to keep up to there.
        keep_step: Another one to keep.
    """
    folders = checkpoint_folders(checkpoints)
    kept = [folder for folder in folders if _step_of(folder) <= newest][-keep_last:]
    for folder in folders:
        if folder not in kept and _step_of(folder) != keep_step:
            remove_folder(folder)


def checkpoint_folders(checkpoints: Path) -> list[Path]:
    """List the checkpoints of a run, oldest first, whole or not."""
    return sorted((path for path in checkpoints.glob("step-*") if STEP.fullmatch(path.name)), key=_step_of)


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def latest_checkpoint(checkpoints: Path, *, say: Callable[[str], None]) -> Checkpoint | None:
    """Find the newest checkpoint that is whole; damaged ones are named and passed over.

    Args:
        checkpoints: Folder of the run's checkpoints.
        say: Prints a line for the person.

    Returns:
        The checkpoint, or None where there is none that is whole.
    """
    for folder in reversed(checkpoint_folders(checkpoints)):
        try:
            return open_checkpoint(folder)
        except CheckpointError as error:
            say(f"damaged checkpoint: {error}; looking for the one before")
    return None


def with_best_there(progress: Progress, checkpoints: Path, *, say: Callable[[str], None]) -> Progress:
    """Forget the best step so far where its checkpoint is damaged or was not kept: its weights can no longer become the run's model.

    Args:
        progress: How far the run is.
        checkpoints: Folder of the run's checkpoints.
        say: Prints a line for the person.
    """
    if progress.best_step in (None, progress.step):  # the one that the run goes on from has just been opened
        return progress
    try:
        open_checkpoint(step_folder(checkpoints, progress.best_step))
    except CheckpointError as error:
        say(
            f"checkpoint.final: best: step {progress.best_step} was the best, and is lost: {error}; the best from here on counts"
        )
        return progress.with_(best_loss=None, best_step=None)
    return progress
