"""Cores and memory that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

CONTROL_GROUP = Path("/sys/fs/cgroup")
"""Where Linux shows the limits of the container that this process is in."""


def usable_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_limit(group: Path = CONTROL_GROUP) -> int | None:
    """Return the limit of this container in bytes; None without a control group, or without a limit in it ("max")."""
    try:
        return int((group / "memory.max").read_text())
    except (OSError, ValueError):
        return None
