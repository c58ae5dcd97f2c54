"""Checks that a model's weights fit into memory, before a byte of them is read.

Without this check the system would kill the process without a message.

Why: only a model that certainly does not fit is refused. Whether answers or training steps fit beside the weights is
estimated elsewhere, by `training.memory`.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch

from instil.errors import SMALLER_WEIGHTS, ModelError
from instil.model.device_memory import free_bytes
from instil.model.folder.file_checks import read_header, weight_files
from instil.units import byte_size

QUANTISED_BYTES = {"4bit": 0.5, "8bit": 1.0}
"""Minimum number of bytes of a quantised weight."""


def check_room(
    folder: Path, *, dtype: torch.dtype, quantize: str, device: torch.device, copies: int = 1, parts: int = 1
) -> None:
    """Refuse a model folder whose weights cannot fit.

    Args:
        folder: Folder with complete safetensors files (see `file_checks.check_weights`).
        dtype: Type that the weights will have; integers (packed weights) keep their own.
        quantize: `none`, `4bit` or `8bit`.
        device: Where the weights go.
        copies: Number of processes that each load them there, or their part of them.
        parts: Number of processes over which they lie in parts; 1 if each process loads them whole.

    Raises:
        ModelError: If they need more memory than is free.
    """
    bytes_per_number = QUANTISED_BYTES.get(quantize, torch.empty(0, dtype=dtype).element_size())
    numbers, packed = count_weights(folder)
    needed, free = (int(numbers * bytes_per_number) + packed) * copies // parts, free_bytes(device)
    if needed > free:
        kind = quantize if quantize != "none" else str(dtype).removeprefix("torch.")
        times = f" {copies} times, once in each process," if copies > 1 else ""
        if parts > 1:
            times = f" for the parts of {copies} of {parts} processes"
        fewer = ", or start fewer processes" if copies > 1 else ""
        if parts > 1:
            fewer = ", or start more processes on further machines or GPUs"
        raise ModelError(
            f"{folder}: no memory for the model: its weights need {byte_size(needed)}{times} as {kind}, "
            f"{byte_size(free)} are free on {device}. {SMALLER_WEIGHTS}, or free some memory{fewer}."
        )


def count_weights(folder: Path) -> tuple[int, int]:
    """Count, from the headers alone, the floating-point numbers that will be loaded, and the bytes of integers.

    Only the files that transformers loads count: some folders hold the same weights twice (Mistral's
    ``consolidated.safetensors``).
    """
    numbers = packed = 0
    for path in weight_files(folder):
        for entry in read_header(path).values():
            if entry["dtype"] in ("F64", "F32", "F16", "BF16"):
                numbers += math.prod(entry["shape"])
            else:
                packed += entry["data_offsets"][1] - entry["data_offsets"][0]
    return numbers, packed
