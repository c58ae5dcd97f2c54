"""Is there memory for a model's weights? Asked before a byte of them is read.

A model that is too large would end in the system's killing the process, without a word. Questionable on purpose: only what certainly does
not fit is refused, so files that the system keeps in memory count as free, and so does what torch keeps of a GPU; whether answers or
training steps fit beside the weights is another question (`training.memory` asks it).
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from instil.errors import SMALLER_WEIGHTS, ModelError, OutOfMemoryError
from instil.model.folder.location import read_header, weight_files

QUANTISED_BYTES = {"4bit": 0.5, "8bit": 1.0}
"""Fewest bytes that a quantised number takes."""
_GROUP = Path("/sys/fs/cgroup")


def check_room(folder: Path, *, dtype: torch.dtype, quantize: str, device: torch.device, copies: int = 1) -> None:
    """Refuse a model folder whose weights cannot fit.

    Args:
        folder: With whole safetensors files, as `location.check_weights` finds them.
        dtype: Type that the weights will have; integers (packed weights) keep their own.
        quantize: `none`, `4bit` or `8bit`.
        device: Where they go.
        copies: Processes that each load them there.

    Raises:
        ModelError: If they need more memory than is free.
    """
    each = QUANTISED_BYTES.get(quantize, torch.empty(0, dtype=dtype).element_size())
    numbers, packed = count_weights(folder)
    needed, free = (int(numbers * each) + packed) * copies, free_bytes(device)
    if needed > free:
        times = f" {copies} times, once in each process," if copies > 1 else ""
        fewer = ", or start fewer processes" if copies > 1 else ""
        raise ModelError(
            f"{folder}: no memory for the model: its weights need {needed / 1e9:.1f} GB{times} as "
            f"{quantize if quantize != 'none' else str(dtype).removeprefix('torch.')}, {free / 1e9:.1f} GB are free on {device}; "
            f"{SMALLER_WEIGHTS}, or free some memory{fewer}"
        )


def count_weights(folder: Path) -> tuple[int, int]:
    """Count the floating-point numbers and the bytes of integers that will be loaded, from the files' headers alone.

    A folder may hold the same weights once more in another form (Mistral's ``consolidated.safetensors``), which nobody loads.
    """
    numbers = packed = 0
    for path in weight_files(folder):
        for entry in read_header(path).values():
            if entry["dtype"] in ("F64", "F32", "F16", "BF16"):
                numbers += math.prod(entry["shape"])
            else:
                packed += entry["data_offsets"][1] - entry["data_offsets"][0]
    return numbers, packed


def free_bytes(device: torch.device) -> int:
    """Give the memory that is free: of the GPU, else of the machine, its container and this process's own limit, whichever is least."""
    if device.type == "cuda":  # what torch keeps of tensors that are gone is free to this process too
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    free = [int(psutil.virtual_memory().available)]
    own = psutil.Process().memory_info()
    for kind, used in ((resource.RLIMIT_AS, own.vms), (resource.RLIMIT_DATA, getattr(own, "data", 0))):
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY:
            free.append(limit - used)
    with contextlib.suppress(OSError, ValueError):  # no control group, or one without a limit ("max")
        kinds = dict(line.split() for line in (_GROUP / "memory.stat").read_text().splitlines())
        files = int(kinds.get("inactive_file", 0)) + int(kinds.get("active_file", 0))  # read before, this model perhaps
        used = int((_GROUP / "memory.current").read_text()) - files
        free.append(int((_GROUP / "memory.max").read_text()) - used)
    return max(0, min(free))


@contextlib.contextmanager
def memory_errors(place: str, remedy: str) -> Iterator[None]:
    """Say a device's or this machine's refusal of memory as an error that a person can mend.

    Args:
        place: What was being made.
        remedy: What to set.

    Raises:
        OutOfMemoryError: In place of it.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).strip().split("\n")[0]
        raise OutOfMemoryError(f"{place}: out of memory ({reason}); {remedy}") from None


def processes_on(device: torch.device) -> int:
    """Count the processes, of those that were started with this one, that share a device's memory: a GPU is a process's own."""
    return 1 if device.type == "cuda" else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error is a device's or this machine's refusal of memory; the CPU's has no class of its own in torch."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)
