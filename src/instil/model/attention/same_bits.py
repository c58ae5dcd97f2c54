"""The same bits again from attention's backward pass on CUDA, where a run asks for deterministic kernels.

Why: a run warns about operators without a deterministic kernel, rather than stopping at them. In that mode torch's
FlashAttention and memory-efficient attention take their faster kernels, which sum a gradient in no fixed order, although
both have a deterministic one. It is taken only while torch is told to raise. So torch is told that between the two ends
of attention's backward pass, and is put back behind it.

Source:
    aten/src/ATen/native/transformers/cuda/attention_backward.cu, `deterministicAlgorithmsWarnOnly`.
"""

from __future__ import annotations

from typing import Any

import torch


def wants_same_bits(query: torch.Tensor) -> bool:
    """Return whether a layer has a backward pass, in a process whose operators should be deterministic."""
    return (
        query.requires_grad
        and torch.is_grad_enabled()
        and torch.are_deterministic_algorithms_enabled()
        and torch.is_deterministic_algorithms_warn_only_enabled()
    )


def before_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return attention's inputs unchanged. The backward pass comes here after that of attention."""
    inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = _Before.apply(query, key, value)  # type: ignore[no-untyped-call]
    return inputs


def after_attention(output: torch.Tensor) -> torch.Tensor:
    """Return attention's output unchanged. The backward pass comes here before that of attention."""
    result: torch.Tensor = _After.apply(output)  # type: ignore[no-untyped-call]
    return result


class _Before(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(tensor.view_as(tensor) for tensor in inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        torch.use_deterministic_algorithms(True, warn_only=True)
        return gradients


class _After(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: torch.Tensor) -> torch.Tensor:
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        torch.use_deterministic_algorithms(True, warn_only=False)
        return gradients[0]
