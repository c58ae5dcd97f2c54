"""Process-wide settings while a run lasts: threads, determinism, and what malloc does with freed memory.

`run` enters both contexts first. Each puts the process back as it was, so that training leaves a notebook or a test
suite unchanged.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterator
from typing import Any

import torch

# Parameters of glibc's malloc. Source: mallopt(3).
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_NEVER = -1
CUBLAS_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
"""Without it torch warns that products on CUDA may not give the same bits again."""
LARGEST_KEPT = 32 * 2**20
"""Larger blocks (in bytes) still go back to the kernel at once. glibc's own rule on 64 bits has the same limit."""

SMALLEST_RETURNED = 128 * 2**10
"""Bytes from which a freed block goes back to the kernel in a run with weights in shards: glibc's first limit."""


@contextlib.contextmanager
def torch_settings(*, threads: int | None, deterministic: bool) -> Iterator[None]:
    """Set torch's threads and determinism for the run, and reset them afterwards.

    Args:
        threads: CPU threads; None for torch's own choice.
        deterministic: Whether CUDA uses deterministic algorithms only. Has no effect without CUDA.
    """
    threads_before = torch.get_num_threads()
    deterministic_before = torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic
    fill_before = memory.fill_uninitialized_memory
    workspace_before = os.environ.get(CUBLAS_WORKSPACE[0])
    if threads is not None:
        torch.set_num_threads(threads)
    if deterministic and torch.cuda.is_available():
        os.environ.setdefault(*CUBLAS_WORKSPACE)
        torch.use_deterministic_algorithms(True, warn_only=True)
        memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        torch.use_deterministic_algorithms(deterministic_before)
        memory.fill_uninitialized_memory = fill_before
        if workspace_before is None:
            os.environ.pop(CUBLAS_WORKSPACE[0], None)


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory in the process while the context is open, then return it. Does nothing without glibc.

    By default malloc takes large blocks from the kernel one by one and returns them when they are freed. Every step's
    activations are then zeroed pages again. At the SmolLM2-135M shape in fp32 that was 660,000 page faults, up to a
    tenth of a step's time (docs/how-it-works/notes/training.md).

    Both settings belong to the process. Afterwards they have the values at which glibc's own adjustment ends at most:
    blocks up to `LARGEST_KEPT` come from the heap, and the heap is trimmed when twice as much is free at its top.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(_MMAP_THRESHOLD, LARGEST_KEPT)
    libc.mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        libc.mallopt(_TRIM_THRESHOLD, 2 * LARGEST_KEPT)
        libc.malloc_trim(0)


def return_freed_memory() -> None:
    """Inside of `freed_memory_kept`, let freed memory go back at once again. Does nothing without glibc.

    For weights in shards: they are gathered block by block, and freed. torch asks for aligned memory, for which glibc
    does not reuse a gap of the same size. Each block would then grow the heap by what it gathers: with the
    SmolLM2-135M shape by 850 MB in one forward pass (docs/how-it-works/notes/training.md).
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_MMAP_THRESHOLD, SMALLEST_RETURNED)
        libc.mallopt(_TRIM_THRESHOLD, SMALLEST_RETURNED)
        libc.malloc_trim(0)


def _glibc() -> Any:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
