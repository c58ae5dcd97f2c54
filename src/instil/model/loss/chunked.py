"""The output head and the token losses, computed chunk by chunk together with their gradients.

Shapes: N trained rows, C rows of a chunk, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from instil.model.loss.objectives import TokenLossFunction, cross_entropy
from instil.model.loss.sharded_head import ShardedJob, sharded_log_probabilities, sharded_loss_sum
from instil.model.parts import HeadParts
from instil.model.sharded_vocabulary.layers import ShardedHead
from instil.model.speedups.round_sizes import SMALLEST_GRAIN

CHUNK_BYTES_CPU = 64 * 2**20
CHUNK_BYTES_GPU = 512 * 2**20
COPIES_OF_LOGITS = 4
CHUNKS_IN_HALF = 8
"""Up to this number of chunks, the gradient of a half-precision head is summed in half precision.

Measured (docs/how-it-works/notes/model.md): an error of 2.0e-3, against 1.7e-3 for a single product; a sum in fp32 takes as long as
the products.
"""
CPU_SOFTMAX_BYTES = 2 * 2**20
"""Bytes of softmax rows that a CPU computes at once: few enough to stay in its cache through all passes."""


def head_loss_sum(
    states: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    *,
    parts: HeadParts,
    token_loss: TokenLossFunction,
    gradient_scale: float = 1.0,
    chunk_bytes: int | None = None,
) -> torch.Tensor:
    """Return the weighted loss sum of trained rows, a differentiable fp32 scalar.

    Args:
        states: [N, D] decoder states of the trained rows; N may be 0.
        targets: N ids.
        weights: N fp32 weights.
        parts: The model taken apart.
        token_loss: A function of `objectives`.
        gradient_scale: See `TokenLoss.gradient_scale`.
        chunk_bytes: Memory for the fp32 logits of a chunk; None chooses by device.
    """
    states = parts.to_head(states)
    chunk_bytes = chunk_bytes or default_chunk_bytes(states.device, plain=is_plain(parts))
    job = _Job(targets, weights, parts, token_loss, gradient_scale, chunk_bytes)
    if isinstance(parts.head, ShardedHead):
        return sharded_loss_sum(states, parts.head, _sharded_job(job))
    trained = tuple(parameter for parameter in parts.head.parameters() if parameter.requires_grad)
    if torch.is_grad_enabled() and (states.requires_grad or trained):
        total = _HeadLoss.apply(states, job, *trained)  # type: ignore[no-untyped-call]
        assert isinstance(total, torch.Tensor)
        return total
    return _evaluate(states, job)


def head_log_probabilities(
    states: torch.Tensor, targets: torch.Tensor, *, parts: HeadParts, chunk_bytes: int | None = None
) -> torch.Tensor:
    """Return the log-probability of each row's target, fp32 [N], without a gradient.

    Args:
        states: [N, D] decoder states; N may be 0.
        targets: N ids.
        parts: The model taken apart.
        chunk_bytes: As for `head_loss_sum`.
    """
    states = parts.to_head(states.detach())
    chunk_bytes = chunk_bytes or default_chunk_bytes(states.device, plain=is_plain(parts))
    if isinstance(parts.head, ShardedHead):
        job = _Job(targets, torch.ones_like(targets, dtype=torch.float32), parts, cross_entropy, 1.0, chunk_bytes)
        return sharded_log_probabilities(states, parts.head, _sharded_job(job))
    rows = rows_at_once(chunk_bytes, parts.vocabulary)
    found = torch.empty(states.shape[0], dtype=torch.float32, device=states.device)
    with torch.no_grad():
        for start in range(0, states.shape[0], rows):
            chunk = slice(start, start + rows)
            logits = parts.adjust(parts.head(states[chunk]))
            found[chunk] = _log_probabilities(logits, targets[chunk])
    return found


def _log_probabilities(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of each target of a chunk [C]."""
    rows = logits.shape[0]
    if logits.device.type == "cpu":
        rows = max(1, CPU_SOFTMAX_BYTES // (4 * logits.shape[1]))
    found = [
        torch.log_softmax(block, dim=-1, dtype=torch.float32).gather(1, target[:, None]).squeeze(1)
        for block, target in zip(torch.split(logits, rows), torch.split(targets, rows), strict=True)
    ]
    return torch.cat(found)


def rows_at_once(chunk_bytes: int, vocabulary: int) -> int:
    """Return how many rows of fp32 logits a chunk has."""
    rows = max(1, chunk_bytes // (4 * vocabulary))
    return rows - rows % SMALLEST_GRAIN or rows


@dataclass(frozen=True)
class _Job:
    targets: torch.Tensor
    weights: torch.Tensor
    parts: HeadParts
    token_loss: TokenLossFunction
    gradient_scale: float
    chunk_bytes: int

    @property
    def rows_at_once(self) -> int:
        return rows_at_once(self.chunk_bytes, self.parts.vocabulary)


def _sharded_job(job: _Job) -> ShardedJob:
    """Return the same job for a head in rows: a chunk's scores take as much memory, since each process scores its rows."""
    softmax_bytes = CPU_SOFTMAX_BYTES if job.targets.device.type == "cpu" else job.chunk_bytes
    return ShardedJob(job.targets, job.weights, job.token_loss, job.gradient_scale, job.rows_at_once, softmax_bytes)


def default_chunk_bytes(device: torch.device, *, plain: bool) -> int:
    """Return the memory for the fp32 logits of a chunk.

    Args:
        device: Where the head computes.
        plain: Whether the head is a linear layer (see `is_plain`); autograd keeps several copies of the logits of any
            other.
    """
    chunk_bytes = CHUNK_BYTES_CPU if device.type == "cpu" else CHUNK_BYTES_GPU
    return chunk_bytes if plain else chunk_bytes // COPIES_OF_LOGITS


def _evaluate(states: torch.Tensor, job: _Job) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float32, device=states.device)
    rows = job.rows_at_once
    with torch.no_grad():
        for start in range(0, states.shape[0], rows):
            chunk = slice(start, start + rows)
            logits = job.parts.adjust(job.parts.head(states[chunk]))
            total += _loss_and_gradient(logits, job.targets[chunk], job.weights[chunk], job, gradient=False)
    return total


class _HeadLoss(torch.autograd.Function):
    """Loss sum of trained rows; its gradients are computed in the forward pass."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, job: _Job, *trained: torch.Tensor) -> torch.Tensor:
        plain = _plain_weight(job.parts)
        if plain is not None:
            total, state_gradient, gradients = _run_linear(states, job, plain, bool(trained))
        else:
            total, state_gradient, gradients = _run_module(states, job, trained)
        ctx.gradient_scale = job.gradient_scale
        ctx.gradients = (state_gradient, gradients)
        return total

    @staticmethod
    def backward(ctx: Any, *incoming: torch.Tensor) -> Any:
        factor = incoming[0] / ctx.gradient_scale
        state_gradient, gradients = ctx.gradients
        ctx.gradients = None
        return (state_gradient.mul_(factor), None, *(gradient.mul_(factor) for gradient in gradients))


def is_plain(parts: HeadParts) -> bool:
    """Return whether a head is a linear layer and nothing more."""
    return _plain_weight(parts) is not None


def _plain_weight(parts: HeadParts) -> torch.Tensor | None:
    """Return the weight of a plain linear head, whose products need no autograd; None for any other head."""
    head = parts.head
    hooks = head._forward_hooks or head._forward_pre_hooks or head._backward_hooks or head._backward_pre_hooks
    if type(head) is not nn.Linear or head.bias is not None or hooks or not parts.adjust.is_identity:
        return None
    return head.weight


def _run_linear(
    states: torch.Tensor, job: _Job, weight: torch.Tensor, trains: bool
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]]:
    """Compute the chunks of a plain linear head: three products each, with the weight's gradient summed in place."""
    total = torch.zeros((), dtype=torch.float32, device=states.device)
    state_gradient = torch.empty_like(states)
    rows = job.rows_at_once
    many = states.shape[0] > rows * CHUNKS_IN_HALF
    weight_gradient: torch.Tensor | None = None
    for start in range(0, states.shape[0], rows):
        chunk = slice(start, start + rows)
        logits = torch.mm(states[chunk], weight.t())
        total += _loss_and_gradient(logits, job.targets[chunk], job.weights[chunk], job, gradient=True)
        torch.mm(logits, weight, out=state_gradient[chunk])
        if trains:
            weight_gradient = _add_product(weight_gradient, logits, states[chunk], many=many)
        del logits
    if not trains:
        return total, state_gradient, ()
    if weight_gradient is None:
        weight_gradient = torch.zeros_like(weight)
    return total, state_gradient, (weight_gradient.to(weight.dtype),)


def _add_product(
    total: torch.Tensor | None, logit_gradient: torch.Tensor, states: torch.Tensor, *, many: bool
) -> torch.Tensor:
    """Add ``logit_gradient.T @ states``; many chunks are summed in fp32, because half-precision sums round again."""
    if total is None:
        product = torch.mm(logit_gradient.t(), states)
        return product.float() if many else product
    if total.dtype == states.dtype:
        return total.addmm_(logit_gradient.t(), states)
    return total.add_(torch.mm(logit_gradient.t(), states))


def _run_module(
    states: torch.Tensor, job: _Job, trained: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]]:
    """Compute the chunks of any other head by autograd: adapters, biases, soft caps, quantised weights."""
    total = torch.zeros((), dtype=torch.float32, device=states.device)
    state_gradient = torch.zeros_like(states)
    gradients = tuple(torch.zeros_like(parameter) for parameter in trained)
    rows = job.rows_at_once
    for start in range(0, states.shape[0], rows):
        chunk = slice(start, start + rows)
        with torch.enable_grad():
            piece = states[chunk].detach().requires_grad_()
            logits = job.parts.adjust(job.parts.head(piece))
        gradient = logits.detach().clone()
        total += _loss_and_gradient(gradient, job.targets[chunk], job.weights[chunk], job, gradient=True)
        chunk_gradients = torch.autograd.grad(logits, (piece, *trained), gradient, allow_unused=True)
        for place, value in zip((state_gradient[chunk], *gradients), chunk_gradients, strict=True):
            if value is not None:
                place.add_(value)
    return total, state_gradient, gradients


def _loss_and_gradient(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, job: _Job, *, gradient: bool
) -> torch.Tensor:
    """Return the weighted loss sum of a chunk and, if `gradient`, overwrite the logits with their gradient.

    Args:
        logits: [C, V] of any float type; the gradient that overwrites them is multiplied by `gradient_scale`.
        targets: C ids.
        weights: C weights.
        job: Loss function and scale.
        gradient: Whether to write the gradient.
    """
    rows = logits.shape[0]
    if logits.device.type == "cpu":
        rows = max(1, CPU_SOFTMAX_BYTES // (4 * logits.shape[1]))
    total = torch.zeros((), dtype=torch.float32, device=logits.device)
    for start in range(0, logits.shape[0], rows):
        block = slice(start, start + rows)
        target, weight = targets[block, None], weights[block]
        log_probability = torch.log_softmax(logits[block], dim=-1, dtype=torch.float32)
        nll = -log_probability.gather(1, target).squeeze(1)
        loss, slope = job.token_loss(nll)
        total += (loss * weight).sum()
        if gradient:
            factor = (weight * slope * job.gradient_scale)[:, None]
            torch.mul(log_probability.exp_(), factor, out=logits[block])
            logits[block].scatter_(1, target, (torch.expm1(-nll)[:, None] * factor).to(logits.dtype))
    return total
