"""Moves tensors and numbers to the device without waiting for it.

Used wherever training and generation send something to a GPU in every step.

Why: ``torch.tensor(numbers, device="cuda")`` and a plain ``.to("cuda")`` wait until the GPU has done all work before
them. The host then cannot run ahead, and the GPU idles while the next operations are launched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def to_device(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """Return a tensor on a device; a copy from host memory does not wait for the device, except on MPS.

    CUDA and XPU copy pageable memory to a buffer of their own before they return, so the source may be freed at once.
    MPS does not, and would read freed memory.

    Source:
        https://github.com/pytorch/pytorch/issues/189690 for MPS.
    """
    return tensor.to(device, non_blocking=torch.device(device).type != "mps")


def send(numbers: Sequence[Any], device: torch.device | str, *, dtype: torch.dtype = torch.long) -> torch.Tensor:
    """Return numbers, or rows of numbers, as a tensor on a device, without waiting for it (see `to_device`).

    Example:
        >>> send([3, 1], "cpu")
        tensor([3, 1])
    """
    return to_device(torch.tensor(numbers, dtype=dtype), device)
