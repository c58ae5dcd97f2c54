"""A folder as a tar archive that is made while it is sent: no copy on the disk, and its length is known before.

Why not zip: its directory stands at the end, and a reader that unpacks a stream cannot use it. Every system of today
unpacks tar.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

BLOCK = tarfile.BLOCKSIZE
PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """A file in the archive.

    Attributes:
        path: Where it lies.
        head: Its head in the archive.
        size: Bytes that the archive promises.
    """

    path: Path
    head: bytes
    size: int


def members_of(folder: Path, files: Sequence[Path]) -> list[Member]:
    """Return the files of an archive, each below the folder's name; owners are left out."""
    members = []
    for path in files:
        status = path.stat()
        info = tarfile.TarInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}")
        info.size, info.mtime, info.mode = status.st_size, int(status.st_mtime), 0o644
        members.append(Member(path, info.tobuf(tarfile.PAX_FORMAT), status.st_size))
    return members


def length_of(members: Sequence[Member]) -> int:
    """Return the bytes of the archive."""
    return sum(len(member.head) + _padded(member.size) for member in members) + 2 * BLOCK


def archive(members: Sequence[Member]) -> Iterator[bytes]:
    """Yield the archive, piece by piece.

    Raises:
        OSError: If a file is shorter than it was: the download then breaks off, and the browser says so.
    """
    for member in members:
        yield member.head
        left = member.size
        with member.path.open("rb") as file:
            while left:
                data = file.read(min(PIECE, left))
                if not data:
                    raise OSError(f"{member.path}: became shorter while it was sent")
                left -= len(data)
                yield data
        yield b"\0" * (_padded(member.size) - member.size)
    yield b"\0" * (2 * BLOCK)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
