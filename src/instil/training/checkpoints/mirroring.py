"""What a run does with its mirror: claim a place in a bucket, start from what is there, and end with all of it copied.

The mirror itself is in `mirror`. The folder in the bucket has the run's name, below `checkpoint.mirror`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from instil.errors import CheckpointError, RunError
from instil.files import LOCK, atomic_folder, disk_errors, locked, remove_empty
from instil.remote.storage import StorageError
from instil.remote.urls import joined_url
from instil.screen import work
from instil.training.checkpoints.mirror import Mirror
from instil.training.checkpoints.mirrored_run import CHECKPOINTS, RECIPE, RESULTS, Contents, MirroredRun
from instil.training.checkpoints.retention import checkpoint_folders, latest_checkpoint, step_of

Say = Callable[[str], None]


def mirrored_run_of(mirror: str | None, *, name: str) -> MirroredRun | None:
    """Return where a run is copied to, or None if it is not.

    Args:
        mirror: The recipe's `checkpoint.mirror`.
        name: The run's name.

    Example:
        >>> mirrored_run_of("s3://bucket/runs", name="first")
        MirroredRun(url='s3://bucket/runs/first')
    """
    return None if mirror is None else MirroredRun(joined_url(mirror, name))


def open_place(run: MirroredRun, folder: Path, *, resume: bool, say: Say) -> None:
    """Check before anything is prepared that a run can be copied, and copy a run to resume back to this machine.

    Args:
        run: The place in the bucket.
        folder: The run folder.
        resume: Whether the user asked to resume.
        say: Prints a line for the user.

    Raises:
        RunError: If the place cannot be written to, holds a run that is not to be resumed, or holds another run.
    """
    try:
        with work(f"looking at {run.url}"):
            contents = run.contents()
            if contents.is_run and not resume:
                raise RunError(
                    f"{run.url}: holds a run. Expected an empty place. "
                    "Add --resume to continue that run, or name another with --output or checkpoint.mirror."
                )
            run.check_writable()
        if resume and contents.is_run and contents.steps:
            _fetch(run, contents, folder, say=say)
    except StorageError as error:
        raise RunError(
            f"{run.url}: the run cannot be copied there ({error.reason}). Expected a bucket that can be read and "
            f"written. {error.remedy}"
        ) from None


def _fetch(run: MirroredRun, contents: Contents, folder: Path, *, say: Say) -> None:
    """Copy a run back if this machine does not have it, or has an earlier state of it."""
    checkpoints = folder / CHECKPOINTS
    here = checkpoint_folders(checkpoints)
    newest = step_of(here[-1]) if here else -1
    is_behind = contents.steps[-1] > newest or (contents.is_finished and not (folder / RESULTS).exists())
    if (folder / RECIPE).exists():
        if not is_behind:
            return
        _check_same_run(run, contents, folder, here[-1] if here else None)
        with locked(folder), disk_errors(folder):
            _fetch_into(run, contents, folder, say=say)
        return
    (folder / LOCK).unlink(missing_ok=True)
    remove_empty((checkpoints, folder))
    with disk_errors(folder), atomic_folder(folder) as aside:
        _fetch_into(run, contents, aside, say=say)


def _check_same_run(run: MirroredRun, contents: Contents, folder: Path, newest: Path | None) -> None:
    if newest is None:
        return
    with contextlib.suppress(OSError, ValueError):  # a damaged checkpoint says nothing; resuming checks again
        here = json.loads((newest / "state.json").read_text())["identity"]
        if here != run.identity(contents.steps[-1]):
            raise RunError(
                f"{run.url}: holds another run than {folder}. Expected the same one, to continue it. "
                "Set another checkpoint.mirror, or another output."
            )


def _fetch_into(run: MirroredRun, contents: Contents, folder: Path, *, say: Say) -> None:
    checkpoints = folder / CHECKPOINTS
    for step in reversed(contents.steps):
        try:
            with work(f"copying step {step} from {run.url}"):
                checkpoint = run.fetch_checkpoint(step, checkpoints, contents=contents)
                best = checkpoint.progress.best_step
                if best is not None and best != step and best in contents.steps:
                    with contextlib.suppress(CheckpointError):  # a lost best step is reported when the run goes on
                        run.fetch_checkpoint(best, checkpoints, contents=contents)
            break
        except CheckpointError as error:
            say(f"damaged checkpoint: {error}; trying the one before")
    else:
        raise RunError(f"{run.url}: no checkpoint there is intact. Expected one. Start again with another output.")
    with work(f"copying the records from {run.url}"):
        for name in contents.record_names:
            run.fetch_file(name, folder)
    say(f"{run.url}: copied back, up to step {step}")


@contextlib.contextmanager
def mirrored(
    run: MirroredRun | None, folder: Path, *, keep_last: int, resume_with: str, say: Say
) -> Iterator[Mirror | None]:
    """Keep a copy of a run folder in a bucket while the context is open; all of it is there when the context ends.

    After an error in the context, what is there on the disk is still copied, without patience, and the error goes on.

    Args:
        run: The place in the bucket; None for no copy.
        folder: The run folder.
        keep_last: How many checkpoints to keep there.
        resume_with: The command that continues the run, for the error.
        say: Prints a line for the user.

    Raises:
        RunError: If something is not copied at the end. The run folder itself is complete.
    """
    if run is None:
        yield None
        return
    mirror = Mirror(run, folder, keep_last=keep_last)
    try:
        yield mirror
    except Exception:
        mirror.finish(patience=0)
        if missing := mirror.missing():
            say(f"warning: {run.url}: not copied: {missing}")
        raise
    with work(f"copying to {run.url}"):
        mirror.finish()
    for line in mirror.news():
        say(line)
    if missing := mirror.missing():
        raise RunError(
            f"{run.url}: not copied: {missing}. Expected all of {folder}, which is complete on this machine. "
            f"Copy the rest with {resume_with}."
        )
    say(f"copied to {run.url}")


def copy_finished(run: MirroredRun | None, folder: Path, *, keep_last: int, resume_with: str, say: Say) -> None:
    """Copy what an earlier end of a finished run could not.

    Raises:
        RunError: As `mirrored`.
    """
    if run is None:
        return
    newest = latest_checkpoint(folder / CHECKPOINTS, say=say)
    progress = None if newest is None else newest.progress
    with contextlib.suppress(StorageError, OSError):  # copying reports it
        contents = run.contents()
        is_there = progress is None or progress.step in contents.steps
        if is_there and contents.is_finished and run.read(RESULTS) == (folder / RESULTS).read_bytes():
            return
    with mirrored(run, folder, keep_last=keep_last, resume_with=resume_with, say=say) as mirror:
        if mirror is not None and progress is not None:
            mirror.saved(progress.step, best=progress.best_step)
