"""Is there memory for a model's weights? Asked before a byte of them is read.

A model that is too large would end in the system's killing the process, without a word. Questionable on purpose: only what certainly does
not fit is refused; whether answers or training steps fit beside the weights is another question (`training.memory` asks it).
"""

from __future__ import annotations

import contextlib
import json
import math
import resource
import struct
from pathlib import Path

import psutil
import torch

from instil.errors import ModelError

QUANTISED_BYTES = {"4bit": 0.5, "8bit": 1.0}
"""Fewest bytes that a quantised number takes."""
_GROUP = Path("/sys/fs/cgroup")


def check_room(folder: Path, *, dtype: torch.dtype, quantize: str, device: torch.device) -> None:
    """Refuse a model folder whose weights cannot fit.

    Args:
        folder: With whole safetensors files.
        dtype: Type that the weights will have.
        quantize: `none`, `4bit` or `8bit`.
        device: Where they go.

    Raises:
        ModelError: If they need more memory than is free.
    """
    each = QUANTISED_BYTES.get(quantize, torch.empty(0, dtype=dtype).element_size())
    needed, free = int(count_numbers(folder) * each), free_bytes(device)
    if needed > free:
        raise ModelError(
            f"{folder}: no memory for the model: its weights need {needed / 1e9:.1f} GB as "
            f"{quantize if quantize != 'none' else str(dtype).removeprefix('torch.')}, {free / 1e9:.1f} GB are free on {device}; "
            "load it in 16 bits or quantised (--precision bf16, --load 4bit; in a recipe model.quantize: 4bit), or free some memory"
        )


def count_numbers(folder: Path) -> int:
    """Count the numbers in a folder's safetensors, from the files' headers alone."""
    count = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        count += sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    return count


def free_bytes(device: torch.device) -> int:
    """Give the memory that is free: of the GPU, else of the machine, its container and this process's own limit, whichever is least."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = [int(psutil.virtual_memory().available)]
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        free.append(limit - psutil.Process().memory_info().vms)
    with contextlib.suppress(OSError, ValueError):  # no control group, or one without a limit ("max")
        reclaimable = dict(line.split() for line in (_GROUP / "memory.stat").read_text().splitlines()).get(
            "inactive_file", "0"
        )
        used = int((_GROUP / "memory.current").read_text()) - int(reclaimable)
        free.append(int((_GROUP / "memory.max").read_text()) - used)
    return max(0, min(free))


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error is a device's or this machine's refusal of memory; the CPU's has no class of its own in torch."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
