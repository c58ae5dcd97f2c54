"""Keep parts of remote files on the disk, up to a bound; the parts that were not used for longest go first.

A file is read several times: to detect its format, to draw rows, to encode. Only the first time comes over the network.

Why: a part belongs to one version of a file, so a changed file never gives old bytes. A disk that is full or cannot be
written to costs requests and no run: then nothing is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from functools import cache
from pathlib import Path

from instil.errors import DataError
from instil.files import ASIDE, cache_root
from instil.remote.storage import Stored

BLOCK = 1 << 20
"""Bytes of a part. The last one of a file is shorter."""
LIMIT = "INSTIL_REMOTE_CACHE"
"""Environment variable with the bound in GiB; 0 keeps nothing."""
_DEFAULT_GIB = 8.0
_LOOK_EVERY = 64
"""Parts written between two looks at the size of the whole cache."""


class BlockCache:
    """Parts of remote files in a folder; get it from `block_cache`."""

    def __init__(self, folder: Path, *, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._written = 0

    def read(self, file: Stored, number: int) -> bytes | None:
        """Return a part, or None if it is not there or not whole."""
        path = self._path(file, number)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return data if len(data) == min(BLOCK, file.size - number * BLOCK) else None

    def has(self, file: Stored, number: int) -> bool:
        """Return whether a part is there."""
        return self._path(file, number).exists()

    def write(self, file: Stored, number: int, data: bytes) -> None:
        """Keep a part. A file whose server names no version is not kept, because a change would not show."""
        if self._limit < BLOCK or not file.version:
            return
        path = self._path(file, number)
        aside = path.with_name(f"{ASIDE}{path.name}-{os.getpid()}")
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(data)
            os.replace(aside, path)
        if self._written % _LOOK_EVERY == 0:
            self._shrink()
        self._written += 1

    def _path(self, file: Stored, number: int) -> Path:
        key = f"{file.url}\n{file.size}\n{file.version}"
        return self._folder / hashlib.sha256(key.encode()).hexdigest()[:32] / f"{number:06d}"

    def _shrink(self) -> None:
        """Remove the parts that were not used for longest, until those of the next look fit too."""
        kept: list[tuple[float, int, Path]] = []
        for path in self._folder.rglob("*"):
            with contextlib.suppress(OSError):  # another process may have removed it
                if path.is_file():
                    stat = path.stat()
                    kept.append((stat.st_mtime, stat.st_size, path))
        size = sum(part[1] for part in kept)
        allowed = max(self._limit - _LOOK_EVERY * BLOCK, self._limit // 2)
        for _, part, path in sorted(kept):
            if size <= allowed:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            with contextlib.suppress(OSError):  # other parts of the file are there
                path.parent.rmdir()
            size -= part


def block_cache() -> BlockCache:
    """Return the cache of this user, with the bound that INSTIL_REMOTE_CACHE sets.

    Raises:
        DataError: If that is no number.
    """
    text = os.environ.get(LIMIT) or str(_DEFAULT_GIB)
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < 1e9:
        raise DataError(f"{LIMIT}: found {text!r}. Expected a number of GiB, 0 for none. Set it, or unset it.")
    return _cache_in(cache_root() / "remote", int(limit * 2**30))


@cache
def _cache_in(folder: Path, limit: int) -> BlockCache:
    return BlockCache(folder, limit=limit)
