"""What waits for the disk: written once for the store, model folders and run folders."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def make_folder(folder: Path) -> list[Path]:
    """Make a folder with those above it; gives the ones that were not there, the lowest first.

    Raises:
        OSError: If it cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders that hold nothing, the lowest first; one that another process has put something into stays."""
    with suppress(OSError):
        for path in folders:
            path.rmdir()


def sync_path(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
