"""Exports each checkpoint that a run has kept, each into a folder of its own, checked like any other export."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from instil.errors import ExportError, InstilError
from instil.exporting.checkpoint_models import checkpoint_as_run, kept_checkpoints
from instil.exporting.export import Exported, export
from instil.files import home_path, new_folders
from instil.refused_writes import refused_writes
from instil.screen import work

FINAL = "final"
"""Folder of the model that the run ended with."""


def export_every_checkpoint(
    name: str | Path, out: str | Path, *, device: str = "auto", **settings: Any
) -> Iterator[tuple[str, Exported]]:
    """Export a finished run's checkpoints and its last model into ``OUT/step-N`` and ``OUT/final``.

    Args:
        name: The run.
        out: Folder to write; it must not exist.
        device: Where to compute.
        **settings: The other arguments of `export`.

    Yields:
        The folder's name and the export, as soon as each is complete.

    Raises:
        ExportError: If one of them fails; those before it are complete, and the message names them.
        CheckpointError: If a checkpoint is damaged. Nothing is written then.
    """
    out = home_path(out)
    if out.exists():
        raise ExportError(f"{out}: already exists. An export never overwrites. Choose another folder.")
    checkpoints = kept_checkpoints(name)
    done: list[str] = []
    with (
        refused_writes(out, raises=ExportError, otherwise="choose another folder"),
        new_folders(out),
        work("exporting checkpoints", total=len(checkpoints) + 1, unit="models") as bar,
    ):
        for checkpoint in checkpoints:
            step = checkpoint.progress.step
            with _named(done, out), checkpoint_as_run(name, checkpoint, beside=out, device=device) as run:
                exported = export(run, out / f"step-{step}", device=device, step=step, **settings)
            done.append(exported.folder.name)
            bar.advance()
            yield exported.folder.name, exported
        with _named(done, out):
            exported = export(name, out / FINAL, device=device, **settings)
        bar.advance()
        yield FINAL, exported


@contextmanager
def _named(done: Sequence[str], out: Path) -> Iterator[None]:
    """Add to an error which exports are complete."""
    try:
        yield
    except InstilError as error:
        if not done:
            raise
        raise ExportError(f"{error} Complete in {out} are: {', '.join(done)}.") from error
