"""Measures the free memory of a device, and recognises the many forms of an out-of-memory error.

Used before a model is loaded (`folder.memory_check`), while a run is planned, and around every step.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

import psutil
import torch

from instil.environment.machine import CONTROL_GROUP as _GROUP
from instil.environment.machine import memory_limit
from instil.errors import OutOfMemoryError


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a GPU; else the least that the machine, its container and this process's limit allow.

    Memory that can be reclaimed counts as free: torch's cache on a GPU, and cached files on the machine and in the
    container.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + cached
    free = [int(psutil.virtual_memory().available)]
    own = psutil.Process().memory_info()
    for kind, used in ((resource.RLIMIT_AS, own.vms), (resource.RLIMIT_DATA, getattr(own, "data", 0))):
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY:
            free.append(limit - used)
    group_limit = memory_limit(_GROUP)
    with contextlib.suppress(OSError, ValueError):  # no control group
        statistics = dict(line.split() for line in (_GROUP / "memory.stat").read_text().splitlines())
        # Cached files count as used by the group; this model's own files may be among them.
        files = int(statistics.get("inactive_file", 0)) + int(statistics.get("active_file", 0))
        used = int((_GROUP / "memory.current").read_text()) - files
        if group_limit is not None:
            free.append(group_limit - used)
    return max(0, min(free))


@contextlib.contextmanager
def memory_errors(place: str, remedy: str) -> Iterator[None]:
    """Turn an out-of-memory error of torch or Python into one line that says what to change.

    Args:
        place: What was being computed or loaded.
        remedy: What the user can do, as a sentence.

    Raises:
        OutOfMemoryError: In place of the original error.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).strip().split("\n")[0]
        raise OutOfMemoryError(f"{place}: out of memory ({reason}). {remedy}") from None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out; torch has no class of its own for that on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)


def processes_on(device: torch.device) -> int:
    """Return how many of this run's processes share the device's memory: on a GPU one, on a CPU all on this machine."""
    return 1 if device.type == "cuda" else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
