"""The process that writes to a run folder, also one that was started in a terminal; and signals to it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil

from instil.errors import RunError
from instil.files import LOCK, lock_holder

_LOCKS = Path("/proc/locks")
"""Linux's list of held locks: kind, process and inode of each."""
BETWEEN_SECONDS = 0.3
"""Between the two signals of a stop at once; `train` has to take the first one before the second."""


def holder_of(folder: Path) -> int | None:
    """Return the process that holds the lock of a run folder, or None.

    Why more than `lock_holder`: a signal follows. The file may come from another machine, or from a process that died,
    whose number another program has now. Linux says who holds the lock; elsewhere the program's command is looked at.
    """
    pid = lock_holder(folder)
    if pid is None or pid == os.getpid():
        return None
    try:
        inode = (folder / LOCK).stat().st_ino
        lines = _LOCKS.read_text(encoding="ascii").splitlines()
    except OSError:
        with contextlib.suppress(psutil.Error):
            return pid if any("instil" in word for word in psutil.Process(pid).cmdline()) else None
        return None
    return pid if any(_is_lock(line, pid, inode) for line in lines) else None


def _is_lock(line: str, pid: int, inode: int) -> bool:
    """Return whether a line such as ``1: FLOCK  ADVISORY  WRITE 873 08:01:2621 0 EOF`` is a lock of a process on a file."""
    words = line.split()
    return len(words) > 5 and words[1] == "FLOCK" and words[4] == str(pid) and words[5].endswith(f":{inode}")


def signal_holder(folder: Path, level: int) -> bool:
    """Send a signal to the process that writes to a run folder; return False if there is none.

    Args:
        folder: The run folder.
        level: 1 asks it to finish its step and save, 2 to stop at once, 3 kills it.

    Raises:
        RunError: If the process belongs to somebody else.
    """
    pid = holder_of(folder)
    if pid is None:
        return False
    try:
        os.kill(pid, signal.SIGKILL if level >= 3 else signal.SIGTERM)
        if level == 2:
            time.sleep(BETWEEN_SECONDS)
            if holder_of(folder) == pid:
                os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise RunError(
            f"{folder}: process {pid} belongs to another user. Expected a run of your own. Ask its owner to stop it."
        ) from None
    return True
