"""The token losses of a head whose rows lie over the processes, chunk by chunk, with their gradients.

Each chunk has the same number of states of every process. Each process scores all of them with its own rows. The
normaliser of the softmax is put together from one number a row and process, so no scores travel.

Shapes: N trained rows of this process, C rows of a chunk of each process, R processes, A = R C rows of a chunk, D width,
S rows of the head on this process, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F

from instil.model.loss.objectives import TokenLossFunction
from instil.model.sharded_vocabulary.exchange import gathered, largest, rows_of, summed_share
from instil.model.sharded_vocabulary.layers import ShardedHead


@dataclass(frozen=True)
class ShardedJob:
    """What is computed of the states.

    Attributes:
        targets: N ids.
        weights: N fp32 weights.
        token_loss: A function of `objectives`.
        gradient_scale: See `TokenLoss.gradient_scale`.
        rows_at_once: States of this process in a chunk, C.
        softmax_bytes: Bytes of fp32 scores of a block of rows; a block is converted at once.
    """

    targets: torch.Tensor
    weights: torch.Tensor
    token_loss: TokenLossFunction
    gradient_scale: float
    rows_at_once: int
    softmax_bytes: int


def sharded_loss_sum(states: torch.Tensor, head: ShardedHead, job: ShardedJob) -> torch.Tensor:
    """Return the weighted loss sum of this process's states, a differentiable fp32 scalar. Every process calls this.

    The head's gradient holds the rows of all processes: it is complete, and must not be summed again.

    Args:
        states: [N, D]; N may be 0, and differs between processes.
        head: The head.
        job: What is computed.
    """
    rows = head.local_rows()
    if torch.is_grad_enabled() and (states.requires_grad or rows.requires_grad):
        total = _ShardedLoss.apply(states, rows, head, job)  # type: ignore[no-untyped-call]
        assert isinstance(total, torch.Tensor)
        return total
    return _add_up(states, rows, head, job, gradient=False, trains=False)[0]


@torch.no_grad()
def sharded_log_probabilities(states: torch.Tensor, head: ShardedHead, job: ShardedJob) -> torch.Tensor:
    """Return the log-probability of each target, fp32 [N], without a gradient. Every process calls this."""
    weight, rank = head.local_rows().to(states.dtype), dist.get_rank()
    found = [
        -_losses(chunk, weight, job)[1].view(-1, chunk.size)[rank, : chunk.count]
        for chunk in _chunks(states, head, job)
    ]
    return torch.cat(found) if found else states.new_zeros(0, dtype=torch.float32)


class _ShardedLoss(torch.autograd.Function):
    """Loss sum of trained rows; its gradients are computed in the forward pass."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, rows: torch.Tensor, head: ShardedHead, job: ShardedJob) -> torch.Tensor:
        total, *gradients = _add_up(states, rows, head, job, gradient=True, trains=rows.requires_grad)
        ctx.gradient_scale, ctx.gradients = job.gradient_scale, gradients
        return total

    @staticmethod
    def backward(ctx: Any, *incoming: torch.Tensor) -> Any:
        factor = incoming[0] / ctx.gradient_scale
        states, rows = ctx.gradients
        ctx.gradients = None
        return states.mul_(factor), None if rows is None else rows.mul_(factor), None, None


@dataclass(frozen=True)
class _Chunk:
    """States of all processes.

    Attributes:
        start: First of this process's states in it.
        size: States of each process, padding included.
        count: How many of them are no padding.
        states: [A, D].
        places: A places of the targets among this process's rows; those outside of them are other processes'.
        weights: A weights; those of padding are 0.
    """

    start: int
    size: int
    count: int
    states: torch.Tensor
    places: torch.Tensor
    weights: torch.Tensor


def _chunks(states: torch.Tensor, head: ShardedHead, job: ShardedJob) -> Iterator[_Chunk]:
    """Gather the states chunk by chunk, as many chunks as the process with the most states has."""
    first_row, _ = rows_of(dist.get_rank(), head.out_features)
    most = largest(states.shape[0], states.device)
    size = max(1, min(job.rows_at_once, most))
    for start in range(0, most, size):
        chunk = slice(start, start + size)
        missing = size - states[chunk].shape[0]
        numbers = torch.stack([job.targets[chunk].double(), job.weights[chunk].double()])  # exact for any id
        targets, weights = gathered(F.pad(numbers, (0, missing))).unbind(1)
        yield _Chunk(
            start,
            size,
            size - missing,
            gathered(F.pad(states[chunk], (0, 0, 0, missing))).flatten(0, 1),
            targets.flatten().long() - first_row,
            weights.flatten().float(),
        )


def _losses(chunk: _Chunk, weight: torch.Tensor, job: ShardedJob) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the scores of this process's rows [A, S], and of all states nll [A] and the softmax's normaliser [A]."""
    scores, places = chunk.states @ weight.t(), chunk.places
    is_here = (places >= 0) & (places < weight.shape[0])
    sums, targets = chunk.weights.new_full((scores.shape[0],), -torch.inf), torch.zeros_like(chunk.weights)
    if weight.shape[0]:
        for block in _blocks(scores, job):
            sums[block] = torch.logsumexp(scores[block].float(), dim=1)
        found = scores.gather(1, places.clamp(0, weight.shape[0] - 1)[:, None]).squeeze(1).float()
        targets = torch.where(is_here, found, targets)
    everyones = gathered(torch.stack([sums, targets]))
    normaliser = torch.logsumexp(everyones[:, 0], dim=0)
    return scores, normaliser - everyones[:, 1].sum(0), normaliser


def _blocks(scores: torch.Tensor, job: ShardedJob) -> Iterator[slice]:
    rows = max(1, job.softmax_bytes // (4 * max(1, scores.shape[1])))
    for start in range(0, scores.shape[0], rows):
        yield slice(start, start + rows)


@torch.no_grad()
def _add_up(
    states: torch.Tensor, rows: torch.Tensor, head: ShardedHead, job: ShardedJob, *, gradient: bool, trains: bool
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """Return the loss sum, and the gradients of the states [N, D] and of the rows [S, D], which has their stored type."""
    rank, weight = dist.get_rank(), rows.to(states.dtype)
    total = torch.zeros((), dtype=torch.float32, device=states.device)
    state_gradient = torch.zeros_like(states) if gradient else None
    row_gradient = torch.zeros_like(rows) if gradient and trains else None
    for chunk in _chunks(states, head, job):
        scores, nll, normaliser = _losses(chunk, weight, job)
        loss, slope = job.token_loss(nll)
        total += (loss * chunk.weights).view(-1, chunk.size)[rank].sum()
        if state_gradient is None:
            continue
        _to_gradient(scores, chunk, nll, normaliser, slope, job)
        if row_gradient is not None and row_gradient.dtype == scores.dtype:
            row_gradient.addmm_(scores.t(), chunk.states)
        elif row_gradient is not None:
            row_gradient.add_((scores.t() @ chunk.states).to(row_gradient.dtype))
        # Summed in fp32: each process adds the part of its rows.
        share = summed_share((scores @ weight).float().view(-1, chunk.size, states.shape[1]))
        state_gradient[chunk.start : chunk.start + chunk.count] = share[: chunk.count].to(states.dtype)
    return total, state_gradient, row_gradient


def _to_gradient(
    scores: torch.Tensor,
    chunk: _Chunk,
    nll: torch.Tensor,
    normaliser: torch.Tensor,
    slope: torch.Tensor,
    job: ShardedJob,
) -> None:
    """Overwrite the scores with their gradient."""
    factor = chunk.weights * slope * job.gradient_scale
    for block in _blocks(scores, job):
        probability = torch.exp(scores[block].float() - normaliser[block, None])
        scores[block] = (probability * factor[block, None]).to(scores.dtype)
    places = chunk.places
    lines = torch.nonzero((places >= 0) & (places < scores.shape[1])).squeeze(1)
    scores[lines, places[lines]] = (torch.expm1(-nll[lines]) * factor[lines]).to(scores.dtype)
