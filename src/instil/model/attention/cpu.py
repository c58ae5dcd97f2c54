"""Causal attention of a flat micro-batch on a CPU, by batched matrix products.

PyTorch's CPU FlashAttention takes several times as long in bf16 as its matrix products would (docs/how-it-works/notes/model.md), and
has no windows. Here the queries of each example are cut into blocks. The same block of several examples, with all their
heads, is one batched product (see `cpu_plan`). Scores are computed and normalised in fp32, as PyTorch does; the other
products run in the tensors' own type.

Probabilities of blocks with few keys (`KEPT_KEYS`) are kept for the backward pass, others are computed again. Memory
then grows with the number of tokens, not with its square.

Shapes: T tokens of all examples, H query heads, K key/value heads, G = H / K, D and D' widths of keys and values, R
gathered rows of queries; of one product: N examples times K heads, Q = G * BLOCK query rows, S keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from instil.model.attention.cpu_plan import BLOCK, Block, BlockPlan, plan_blocks

KEPT_KEYS = 256
"""Blocks with at most this number of keys keep their probabilities: at most 256 numbers for each token and head."""


def attend_on_cpu(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    lengths: tuple[int, ...],
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """Attend within each example.

    Args:
        query: [1, H, T, D].
        key: [1, K, T, D].
        value: [1, K, T, D'].
        lengths: Number of tokens of each example.
        scale: Factor on the scores.
        window: Number of tokens that a token sees, itself included; None for all before it.

    Returns:
        [1, T, H, D'].
    """
    plan = plan_blocks(lengths, num_heads=query.shape[1], num_groups=key.shape[1], window=window)
    apply: Any = _Attention.apply
    output: torch.Tensor = apply(query[0], key[0], value[0], plan, scale, window)
    return output[None]


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        plan: BlockPlan,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        queries = _gather(_rows(query), plan.query_rows)
        keys, values = _gather(_rows(key), plan.key_rows), _gather(_rows(value), plan.key_rows)
        wide_keys = keys.float() * scale
        output = value.new_empty(queries.shape[0], value.shape[-1])
        kept = []
        for block, (seen, seen_values) in _products(plan, wide_keys, values):
            probabilities = _probabilities(_batch(queries, block), seen, block, window).to(value.dtype)
            torch.bmm(probabilities, seen_values, out=_batch(output, block))
            if block.num_keys <= KEPT_KEYS:
                kept.append(probabilities)
        output = _gather(output, plan.query_places).view(-1, query.shape[0], value.shape[-1])
        ctx.save_for_backward(queries, keys, values, output, *kept)
        ctx.rest = (plan, scale, window)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        queries, keys, values, output, *kept = ctx.saved_tensors
        remembered = iter(kept)
        plan, scale, window = ctx.rest
        heads, width = output.shape[1:]
        incoming = _gather(_with_means(gradients[0], output), plan.gradient_rows)
        # The softmax gradient subtracts a mean for each query. The product does it: the mean is a column of the
        # incoming gradient, and the matching column of the values is -1.
        with_ones = torch.cat([values, values.new_full((values.shape[0], 2), -1.0)], dim=1)
        wide_keys = keys.float() * scale if any(block.num_keys > KEPT_KEYS for block in plan.blocks) else keys
        query_gradient = torch.empty_like(queries)
        key_gradient, value_gradient = (torch.zeros(rows.shape, dtype=torch.float32) for rows in (keys, values))
        around = (keys, with_ones, wide_keys, key_gradient, value_gradient)
        for block, (seen, seen_values, wide, to_keys, to_values) in _products(plan, *around):
            rows, arriving = _batch(queries, block), _batch(incoming, block)
            probabilities = (
                next(remembered)
                if block.num_keys <= KEPT_KEYS
                else _probabilities(rows, wide, block, window).to(values.dtype)
            )
            slopes = torch.bmm(arriving, seen_values.transpose(1, 2)).mul_(probabilities)
            torch.bmm(slopes, seen, out=_batch(query_gradient, block))
            to_keys += torch.bmm(slopes.transpose(1, 2), rows)
            to_values += torch.bmm(probabilities.transpose(1, 2), arriving[..., :width])
        input_gradients = (
            _gather(query_gradient, plan.query_places).mul_(scale).view(-1, heads, queries.shape[-1]),
            _gather(key_gradient, plan.key_places).mul_(scale).view(-1, plan.num_groups, keys.shape[-1]),
            _gather(value_gradient, plan.key_places).view(-1, plan.num_groups, width),
        )
        return (*(gradient.transpose(0, 1).to(queries.dtype) for gradient in input_gradients), None, None, None)


def _rows(heads: torch.Tensor) -> torch.Tensor:
    """Return [H, T, D] as [T * H, D]; no copy is made if tokens are outermost in memory, as after projections."""
    return heads.transpose(0, 1).reshape(-1, heads.shape[-1])


def _gather(rows: torch.Tensor, places: Any) -> torch.Tensor:
    return rows.index_select(0, torch.from_numpy(places))


def _with_means(gradient: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """Return the incoming gradient as rows [T * H + 1, D' + 2], each followed by its product with the output.

    The last row is zeros. The product is split into two numbers of the tensors' own type that add up to it, because one
    number in half precision is too coarse.
    """
    rows, width = gradient.reshape(-1, gradient.shape[-1]), gradient.shape[-1]
    means = (gradient * output).sum(-1, dtype=torch.float32).view(-1)
    extended = rows.new_zeros(rows.shape[0] + 1, width + 2)
    extended[:-1, :width] = rows
    extended[:-1, width] = means
    extended[:-1, width + 1] = means - extended[:-1, width].float()
    return extended


def _batch(rows: torch.Tensor, block: Block) -> torch.Tensor:
    """Return the rows of a block as [N, Q, width]."""
    return rows[block.queries].view(block.count, -1, rows.shape[-1])


def _products(plan: BlockPlan, *by_key: torch.Tensor) -> Iterator[tuple[Block, Sequence[torch.Tensor]]]:
    """Yield each block with its part [N, S, width] of every tensor of gathered keys."""
    for block in plan.blocks:
        seen = slice(block.first, block.first + block.num_keys)
        parts = [rows[block.keys].view(block.count, -1, rows.shape[-1])[:, seen] for rows in by_key]
        yield block, parts


def _probabilities(rows: torch.Tensor, scaled_keys: torch.Tensor, block: Block, window: int | None) -> torch.Tensor:
    """Return the fp32 probabilities [N, Q, S] of a block."""
    scores = torch.bmm(rows.float(), scaled_keys.transpose(1, 2))
    laid_out = scores.view(block.count, -1, BLOCK, block.num_keys)
    before = block.start - block.first  # every query sees all keys before its block, unless a window hides them
    own = laid_out[..., before:]
    own += torch.full(own.shape[-2:], float("-inf")).triu_(1)
    if window is not None:
        laid_out += torch.full(laid_out.shape[-2:], float("-inf")).tril_(before - window)
    return torch.softmax(scores, dim=-1)
