"""Delete a run: what it has and how much is told first; only a run, only in the workspace, never one that goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from instil.errors import RunError
from instil.files import locked, remove_folder
from instil.refused_writes import refused_writes
from instil.studio.runs.holder import holder_of
from instil.training.records.run_folder import is_run


@dataclass(frozen=True, slots=True)
class Amount:
    """What a run folder has.

    Attributes:
        parts: Name, bytes and files of each file or folder in it, the largest first.
        size: Bytes of all files; what links lead to is not counted, and stays.
        files: Number of files.
        links: Number of links.
    """

    parts: tuple[tuple[str, int, int], ...]
    size: int
    files: int
    links: int


def amount_of(folder: Path) -> Amount:
    """Return what deleting a run folder removes."""
    parts: dict[str, list[int]] = {}
    links = 0
    for path in _files(folder):
        top = path.relative_to(folder).parts[0]
        part = parts.setdefault(top, [0, 0])
        if path.is_symlink():
            links += 1
            continue
        part[0] += path.lstat().st_size
        part[1] += 1
    listed = sorted(
        ((name, size, files) for name, (size, files) in parts.items()), key=lambda part: (-part[1], part[0])
    )
    return Amount(tuple(listed), sum(part[1] for part in listed), sum(part[2] for part in listed), links)


def _files(folder: Path) -> Iterator[Path]:
    """Yield all files and links below a folder; links are not followed."""
    for above, folders, files in os.walk(folder):
        yield from (Path(above, name) for name in files)
        yield from (path for name in folders if (path := Path(above, name)).is_symlink())


def check_removable(root: Path, path: str) -> Path:
    """Return the run folder that may be deleted.

    Args:
        root: The workspace, resolved.
        path: The run's path below it, as `Studio.path` has accepted it.

    Raises:
        RunError: If it is no run, leads over a link, or goes on.
    """
    folder = root / path
    if folder.resolve() != folder or folder == root or root not in folder.parents:
        raise RunError(
            f"{path}: a link, or not a folder in the workspace. Expected a run folder itself. Delete it by hand."
        )
    if not is_run(folder):
        raise RunError(f"{path}: no run folder. Expected one that `instil train` wrote. Delete it by hand.")
    process = holder_of(folder)
    if process is not None:
        raise RunError(f"{path}: process {process} is writing to it. Expected a run that has ended. Stop it first.")
    return folder


def remove_run(root: Path, path: str) -> None:
    """Delete a run folder.

    Raises:
        RunError: As `check_removable`; or if the disk refuses.
    """
    folder = check_removable(root, path)
    # Locked, so that no run starts to write to it in between.
    with (
        refused_writes(folder, raises=RunError, found="it cannot be deleted", otherwise="delete it by hand"),
        locked(folder),
    ):
        remove_folder(folder)
