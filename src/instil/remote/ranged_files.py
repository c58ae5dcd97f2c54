"""Read a remote file in parts, as if it were on the disk, and refuse it if it changes meanwhile.

Reading on asks for larger and larger parts, so that a whole file needs few requests and its first rows few bytes.

Why: a file is pinned to its version when it is found. After every request the server is asked for the version again, and
bytes count only if it is the pinned one. So rows of two versions never mix, whatever the storage.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from instil.errors import DataError
from instil.remote.block_cache import BLOCK, BlockCache, block_cache
from instil.remote.storage import Storage, StorageError, Stored, storage_of
from instil.remote.urls import name_of_url

_MOST_BLOCKS = 16
"""Parts of the largest request, which stay in memory until the next one."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A remote file, pinned to the version that was found. Its text is its address without secrets.

    Attributes:
        stored: Address, size and version.
    """

    stored: Stored

    def __str__(self) -> str:
        return self.stored.url

    @property
    def name(self) -> str:
        """Its name, without a query."""
        return name_of_url(self.stored.url)

    @property
    def suffix(self) -> str:
        """The last suffix of its name, with the dot."""
        return "." + self.name.rpartition(".")[2] if "." in self.name else ""

    @property
    def fingerprint(self) -> str:
        """What changes when its content does: version and size."""
        return f"{self.stored.version}-{self.stored.size}"

    def open(self) -> io.BufferedReader:
        """Open the file for reading bytes; it can seek.

        Raises:
            DataError: From this and every read, if it cannot be read or has changed since it was found.
        """
        return io.BufferedReader(_RangedReader(self), BLOCK)


class _RangedReader(io.RawIOBase):
    """The bytes of a remote file at any position."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file.stored
        self._storage: Storage = storage_of(self._file.url)
        self._cache: BlockCache = block_cache()
        self._held: dict[int, bytes] = {}
        self._position = 0
        self._following = -1  # the part after the latest request
        self._num_blocks = 1

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position and return it."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def readinto(self, into: Any) -> int:
        """Fill a buffer, at most to the end of a part, and return the number of bytes; 0 at the end.

        Raises:
            DataError: If the file cannot be read or has changed.
        """
        if self._position >= self._file.size:
            return 0
        number, offset = divmod(self._position, BLOCK)
        data = memoryview(self._block(number))[offset : offset + len(into)]
        into[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _block(self, number: int) -> bytes:
        if number not in self._held:
            kept = self._cache.read(self._file, number)
            self._held = {number: kept} if kept is not None else self._fetched(number)
        return self._held[number]

    def _fetched(self, first: int) -> dict[int, bytes]:
        """Request parts from `first` on, twice as many as last time where reading goes on, and keep them."""
        self._num_blocks = min(self._num_blocks * 2, _MOST_BLOCKS) if first == self._following else 1
        last = first + 1
        while last < first + self._num_blocks and last * BLOCK < self._file.size:
            if self._cache.has(self._file, last):
                break
            last += 1
        data = self._checked(first * BLOCK, min(last * BLOCK, self._file.size))
        blocks = {number: data[(number - first) * BLOCK :][:BLOCK] for number in range(first, last)}
        for number, block in blocks.items():
            self._cache.write(self._file, number, block)
        self._following = last
        return blocks

    def _checked(self, start: int, end: int) -> bytes:
        """Return bytes of the pinned version."""
        url = self._file.url
        try:
            data = self._storage.read_part(url, start, end)
        except StorageError as error:
            failure: StorageError | None = error
        else:
            failure = None
        try:
            now = self._storage.state(url)
        except StorageError as error:
            raise _unreadable(url, failure or error) from None
        if now != self._file:
            found = "it is gone" if now is None else f"it is now {now}"
            raise DataError(
                f"{url}: changed while it was read: {found}. Expected what was found at the start: {self._file}. "
                "Start again when nobody writes to it, or read a copy."
            )
        if failure is not None:
            raise _unreadable(url, failure)
        return data


def _unreadable(url: str, failure: StorageError) -> DataError:
    return DataError(f"{url}: cannot be read ({failure.reason}). Expected a file that can be read. {failure.remedy}")
