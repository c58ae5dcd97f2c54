"""PyTorch's variable-length FlashAttention: one call for all examples of a flat micro-batch (CUDA, half precision)."""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import Any

import torch

from instil.model.attention.layout import FlatLayout


def attend_varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    layout: FlatLayout,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """Attend within each example.

    Args:
        query: [1, H, T, D].
        key: [1, K, T, D].
        value: [1, K, T, D].
        layout: The examples.
        scale: Factor on the scores.
        window: Number of tokens that a token sees, itself included; None for all before it.

    Returns:
        [1, T, H, D].
    """
    from torch.nn.attention.varlen import varlen_attn

    longest = layout.longest
    grouped: dict[str, Any] = {}
    if query.shape[1] != key.shape[1]:
        if "enable_gqa" in _varlen_parameters():
            grouped["enable_gqa"] = True
        else:  # torch 2.11
            groups = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    output = varlen_attn(
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        layout.boundaries,
        layout.boundaries,
        longest,
        longest,
        scale=scale,
        window_size=(-1 if window is None else window - 1, 0),
        **grouped,
    )
    assert isinstance(output, torch.Tensor)
    return output[None]


@lru_cache
def why_no_varlen(device_index: int, dtype: torch.dtype) -> str | None:
    """Return why this kernel cannot serve on a CUDA device, or None if it can."""
    if dtype not in (torch.float16, torch.bfloat16):
        return f"it has no {dtype}"
    if torch.version.hip is not None:
        return "it is built for NVIDIA devices"
    if torch.cuda.get_device_capability(device_index) < (8, 0):
        return "it needs compute capability 8.0"
    if not {"window_size", "scale"} <= _varlen_parameters():
        return f"torch {torch.__version__} has no torch.nn.attention.varlen with scale and window"
    return None


@lru_cache
def _varlen_parameters() -> frozenset[str]:
    """Return the parameter names of PyTorch's variable-length attention; none if this torch does not have it."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return frozenset()
    return frozenset(inspect.signature(varlen_attn).parameters)
