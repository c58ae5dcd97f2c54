"""Write files so that a crash leaves the old one or the new one, never half of one; and lock a folder.

Under checkpoints and the run folder. A file is written aside, flushed to the disk, and renamed into place; what is aside
begins with ``.tmp-``, so that the next start knows what to sweep. Questionable on purpose: the lock is the kernel's
(`flock`), not a file that exists or not, because it must die with its process.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from instil.disk import sync_path
from instil.errors import RunError

ASIDE = ".tmp-"
MODEL_ASIDE = ".writing-"
"""What `model.saving` leaves when it is interrupted."""
LOCK = ".lock"


def write_text_atomic(path: Path, text: str) -> None:
    """Replace a text file in one move; a crash at any moment, or a full disk, leaves the old or the new content."""
    aside = path.with_name(f"{ASIDE}{path.name}")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json_atomic(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a JSON file in one move."""
    write_text_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def sync_folder(folder: Path) -> None:
    """Wait until a folder's names are on the disk, where the file system can say so."""
    try:
        sync_path(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def sha256_of(path: Path) -> str:
    """Give the SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_folder(folder: Path) -> None:
    """Remove a folder so that no half of it is ever seen under its name."""
    if folder.exists():
        aside = folder.with_name(f"{ASIDE}gone-{folder.name}-{os.getpid()}")
        os.replace(folder, aside)
        shutil.rmtree(aside)


def sweep_aside(folder: Path) -> list[str]:
    """Remove what an interrupted write left in a folder, and give the names."""
    found = sorted([*folder.glob(f"{ASIDE}*"), *folder.glob(f"{MODEL_ASIDE}*")]) if folder.is_dir() else []
    for path in found:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return [path.name for path in found]


REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EISDIR}
"""What a disk says that is full, over a quota, read-only, not ours or broken, or has a folder where a file should be."""


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Say a write that the disk refuses as an error that a person can mend.

    Raises:
        RunError: In place of an OSError from the disk.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        raise RunError(
            f"{folder}: cannot be written to ({error}); what is saved there is whole; free disk space or mend the "
            "folder's permissions, then go on with --resume"
        ) from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder for this process while the context is open; the kernel lets go of it when the process dies.

    Raises:
        RunError: If another process holds it, or the folder cannot be written to.
    """
    with disk_errors(folder):
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise RunError(
            f"{folder}: another run (process {holder}) is writing to it; one run a folder; "
            "wait for it, stop it, or set another output"
        ) from None
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
