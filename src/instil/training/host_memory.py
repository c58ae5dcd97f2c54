"""Keeps the memory that a step frees for the next step: what glibc's malloc does with large blocks, set for training on a CPU.

By default malloc takes large blocks from the kernel one by one and gives them back when they are freed, so that every step's
activations are zeroed pages again: at the SmolLM2-135M shape in fp32 660,000 page faults, up to a tenth of a step's time
(docs/notes/training.md). Source of the parameters: glibc's mallopt(3).
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
from collections.abc import Iterator

_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_NEVER = -1
LARGEST_KEPT = 32 * 2**20
"""Blocks above this many bytes are still given back at once; glibc's own rule for 64 bits never goes beyond it either."""


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory in the process while the block runs, then give back what is free; other C libraries than glibc do as they do.

    The two settings are the whole process's. Afterwards they stand where glibc's own adjustment ends at most: blocks up to
    `LARGEST_KEPT` from the heap, and the heap trimmed when twice as much is free at its top.
    """
    libc = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
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
