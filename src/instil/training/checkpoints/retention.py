"""Which checkpoints a run keeps, which is the latest intact one, and whether the best one is still there.

Beside `checkpoint`, which writes and reads one.

Why: damaged checkpoints stay until another one has been written. A disk that cannot be read today may be readable
tomorrow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from instil.errors import CheckpointError
from instil.files import remove_folder
from instil.training.checkpoints.checkpoint import Checkpoint, Progress, open_checkpoint, step_folder

STEP = re.compile(r"step-\d{6,}")
"""Name of a checkpoint's folder. A copy that the user made under another name is left alone."""


def prune_checkpoints(
    checkpoints: Path, *, newest: int, keep_last: int, keep_step: int | None, held: Collection[int] = ()
) -> None:
    """Remove all checkpoints except the last `keep_last` up to `newest`, and that of `keep_step`.

    Args:
        checkpoints: Folder of the run's checkpoints.
        newest: Step of the checkpoint that has just been written. Later ones were found damaged when the run resumed
            from an earlier one. They must not take the place of intact ones.
        keep_last: How many to keep up to `newest`.
        keep_step: Step of another one to keep, or None.
        held: Steps of others that are read at the moment.
    """
    folders = checkpoint_folders(checkpoints)
    kept = kept_steps(map(step_of, folders), newest=newest, keep_last=keep_last, keep_step=keep_step).union(held)
    for folder in folders:
        if step_of(folder) not in kept:
            remove_folder(folder)


def kept_steps(steps: Iterable[int], *, newest: int, keep_last: int, keep_step: int | None) -> set[int]:
    """Return which checkpoints are kept (see `prune_checkpoints`).

    Example:
        >>> sorted(kept_steps([10, 20, 30, 40], newest=30, keep_last=1, keep_step=10))
        [10, 30]
    """
    steps = sorted(steps)
    kept = set([step for step in steps if step <= newest][-keep_last:])
    return kept | ({keep_step} & set(steps) if keep_step is not None else set())


def checkpoint_folders(checkpoints: Path) -> list[Path]:
    """Return the folders of a run's checkpoints, oldest first, intact or not."""
    return sorted((path for path in checkpoints.glob("step-*") if STEP.fullmatch(path.name)), key=step_of)


def step_of(folder: Path) -> int:
    """Return the step of a checkpoint, by its folder's name."""
    return int(folder.name.removeprefix("step-"))


def latest_checkpoint(checkpoints: Path, *, say: Callable[[str], None]) -> Checkpoint | None:
    """Return the newest intact checkpoint; damaged ones are reported and skipped.

    Args:
        checkpoints: Folder of the run's checkpoints.
        say: Prints a line for the user.

    Returns:
        The checkpoint, or None if none is intact.
    """
    for folder in reversed(checkpoint_folders(checkpoints)):
        try:
            return open_checkpoint(folder)
        except CheckpointError as error:
            say(f"damaged checkpoint: {error}; trying the one before")
    return None


def with_best_there(progress: Progress, checkpoints: Path, *, say: Callable[[str], None]) -> Progress:
    """Forget the best step if its checkpoint is damaged or gone: its weights cannot become the run's model.

    Args:
        progress: How far the run is.
        checkpoints: Folder of the run's checkpoints.
        say: Prints a line for the user.
    """
    if progress.best_step in (None, progress.step):  # the latest checkpoint has been opened already
        return progress
    try:
        open_checkpoint(step_folder(checkpoints, progress.best_step))
    except CheckpointError as error:
        say(
            f"checkpoint.final: best: step {progress.best_step} was the best, and is lost: {error}; "
            "the best step from here on counts"
        )
        return progress.with_(best_loss=None, best_step=None)
    return progress
