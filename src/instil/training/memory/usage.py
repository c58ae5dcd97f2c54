"""Memory in use now, and memory that is free for the run."""

from __future__ import annotations

import resource
import sys

import psutil
import torch

from instil.model.device_memory import free_bytes, processes_on


def free_memory(device: torch.device, *, sharing: int | None = None) -> int:
    """Return the bytes that are free on a device for one process.

    Args:
        device: Where the run computes.
        sharing: Processes that share the memory of this machine; None for as many as were started with this one. Has
            no effect on GPUs, as each process has its own.
    """
    return free_bytes(device) // (processes_on(device) if sharing is None or device.type == "cuda" else sharing)


def memory_mb() -> float:
    """Return the memory in use, in MB: on the GPU its peak, else this process's resident size."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return torch.cuda.max_memory_reserved() / 2**20
    return rss_mb()


def rss_mb() -> float:
    """Return the resident size of this process, in MB."""
    return float(psutil.Process().memory_info().rss) / 2**20


def peak_rss_mb() -> float:
    """Return the largest resident size that this process has had, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
