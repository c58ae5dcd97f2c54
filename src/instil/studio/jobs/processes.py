"""Processes told apart from later ones that have the same id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this machine.

    Attributes:
        pid: Its id, which a later process may get again.
        birth: When it started, in a form that no other process with this id has.
    """

    pid: int
    birth: str

    @property
    def is_alive(self) -> bool:
        """Whether it still runs. One that has ended and that nobody has waited for does not."""
        return birth_of(self.pid) == self.birth


def birth_of(pid: int) -> str:
    """Return when a process started, or an empty text if it does not run.

    Why not the clock: it may be set while the process runs. Linux counts from its own start, which has an id.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = stat.rpartition(")")[2].split()  # the name, in brackets, may contain anything
        return "" if fields[0] in "ZX" else f"{_BOOT.read_text(encoding='utf-8').strip()}:{fields[19]}"
    except FileNotFoundError:
        if _BOOT.exists():
            return ""
    except ProcessLookupError:
        return ""
    try:  # a system without /proc
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return ""


def this_process(pid: int) -> Process:
    """Return the process that has an id now."""
    return Process(pid, birth_of(pid))
