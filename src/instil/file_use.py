"""Who uses a file: a lock that readers share, that a writer has alone, and that a removal needs alone.

Why: the lock is the kernel's (`flock`), so it ends with its process. A store that is open in a run, here or on another
machine that shares the folder, is never removed; nor is one that is being written.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class FileUse:
    """A lock on a file, kept as long as this object lives. A file system without locks has none."""

    def __init__(self, file: Path | None = None, *, alone: bool = False) -> None:
        """Lock a file.

        Args:
            file: The file; None for an object that locks nothing.
            alone: Whether nobody else may have locked it, as for writing.

        Raises:
            BlockingIOError: If somebody else has locked it so that this is impossible.
            OSError: If it cannot be opened.
        """
        self._descriptor = -1
        if file is None:
            return
        # Network file systems give a lock that nobody shares only to those who may write.
        self._descriptor = os.open(file, os.O_RDWR if alone else os.O_RDONLY)
        try:
            self._lock(fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        except BlockingIOError:
            self.end()
            raise

    def share(self) -> None:
        """Let others share a lock that this object had alone."""
        if self._descriptor >= 0:
            self._lock(fcntl.LOCK_SH)

    def end(self) -> None:
        """Give the lock back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _lock(self, kind: int) -> None:
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            pass

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            self.end()

    def __reduce__(self) -> tuple[Any, ...]:
        """Return an object without a lock: a copy in another process has none of the file descriptors."""
        return (FileUse, ())


@contextlib.contextmanager
def unused(file: Path) -> Iterator[bool]:
    """Yield whether nobody uses a file, and let nobody use it while the context is open.

    Args:
        file: The file. One that is not there is used by nobody.
    """
    try:
        use = FileUse(file, alone=True)
    except BlockingIOError:
        yield False
        return
    except (FileNotFoundError, NotADirectoryError):
        yield True
        return
    except OSError:  # it may not be written to, so it cannot be removed either; that error has more to say
        yield True
        return
    try:
        yield True
    finally:
        use.end()
