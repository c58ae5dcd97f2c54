"""Files that are dropped on the page: streamed to the disk, under a name of our choosing, up to a limit."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from instil.data.sources.files import container_of
from instil.files import atomic_file
from instil.studio.problems import PageProblem
from instil.units import byte_size

FOLDER = "data"
"""Folder of the workspace for dropped files."""
MOST_BYTES = 8 << 30
"""A file beyond it is copied into the workspace rather than sent through a browser."""
_LONGEST_STEM = 60
_KEPT_FREE = 1 << 30
_TRIES = 10_000
_COMPRESSED = frozenset({".gz", ".zst", ".bz2", ".xz"})


def target_name(name: str) -> str | None:
    """Return the name for a dropped file: its letters, digits, points and hyphens; None if its kind cannot be read.

    Example:
        >>> target_name("My rows (1).CSV"), target_name("../../etc/x.jsonl"), target_name("photo.png")
        ('My-rows-1.csv', 'x.jsonl', None)
    """
    bare = re.split(r"[/\\]", name)[-1]
    if container_of(bare) is None:
        return None
    suffixes = re.search(r"(\.[A-Za-z]+)(\.(gz|zst|bz2|xz))?$", bare, re.IGNORECASE)
    assert suffixes is not None  # else the container would not be known
    stem = re.sub(r"[^\w.-]+", "-", bare[: suffixes.start()]).strip(".-_")[:_LONGEST_STEM]
    return f"{stem or 'data'}{suffixes.group().lower()}"


def reserve(folder: Path, name: str) -> Path:
    """Make an empty file for an upload in a folder, with a number where the name is taken, and return its path.

    Raises:
        PageProblem: With status 415, if a file of this kind cannot be read.
    """
    target = target_name(name)
    if target is None:
        raise PageProblem(415, "data.upload_kind", name=name)
    folder.mkdir(exist_ok=True)
    suffixes = "".join(Path(target).suffixes[-2:] if Path(target).suffix in _COMPRESSED else Path(target).suffixes[-1:])
    for number in range(1, _TRIES):
        path = folder / (target if number == 1 else f"{target.removesuffix(suffixes)}-{number}{suffixes}")
        try:
            path.open("xb").close()
        except FileExistsError:
            continue
        return path
    raise PageProblem(409, "data.upload_names", name=target)


async def receive(parts: AsyncIterator[bytes], path: Path, *, most: int, announced: int | None) -> int:
    """Write what arrives to a reserved file, complete or not at all, and return its size.

    Args:
        parts: What arrives.
        path: The reserved file. It is removed where the upload does not come to its end.
        most: Largest number of bytes.
        announced: The number of bytes that the browser announced, or None.

    Raises:
        PageProblem: With status 413 if it is too large, 507 if the disk has no room, 400 if it breaks off.
    """
    size = 0
    try:
        if announced is not None:
            _check_room(path, announced, most)
        with atomic_file(path) as file:
            async for part in parts:
                size += len(part)
                if size > most:
                    raise PageProblem(413, "data.upload_large", size=byte_size(size), most=byte_size(most))
                await run_in_threadpool(file.write, part)
            if announced is not None and size != announced:
                raise PageProblem(400, "data.upload_broken")
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return size


def _check_room(path: Path, announced: int, most: int) -> None:
    if announced > most:
        raise PageProblem(413, "data.upload_large", size=byte_size(announced), most=byte_size(most))
    free = shutil.disk_usage(path.parent).free
    if announced + _KEPT_FREE > free:
        raise PageProblem(507, "data.upload_no_room", size=byte_size(announced), free=byte_size(free))
