"""Causal attention of a flat micro-batch on a CPU, by matrix products, block by block of queries.

PyTorch's CPU FlashAttention takes several times as long in bf16 as the products that it stands for (docs/notes/model.md), and
knows no windows. Here scores are computed and normalised in fp32, as it does, and the products run in the tensors' own type.
Probabilities of short stretches (`KEPT_KEYS`) are kept for the backward pass, which then takes a fifth less; longer ones are computed again, a block at
a time, so that what is kept grows with the tokens and never with their square.

Shapes: T tokens of all examples, L of one, H query heads, K key/value heads, G = H / K, D head width, N queries of a block,
S keys of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from instil.model.few_shapes import grain_of, round_up

BLOCK = 128
KEPT_KEYS = 256
"""Blocks of at most so many keys keep their probabilities, in the tensors' own type: at most 256 numbers a token and head."""


@dataclass(frozen=True)
class _Block:
    """Half-open token ranges: queries, the keys that any of them sees, and the start of their example.

    The rounded numbers are what the products are given, so that there are few shapes of them (see `few_shapes`). Rows beyond
    the queries are zeros, and keys beyond the last query are masked.

    Attributes:
        start: First query.
        stop: End of the queries.
        first: First key; the last query is the last key that is seen.
        num_queries: Number of query rows, rounded up.
        num_keys: Number of keys, rounded up.
    """

    start: int
    stop: int
    first: int
    num_queries: int
    num_keys: int


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
        lengths: Tokens of each example.
        scale: Factor on the scores.
        window: Tokens that a token sees, itself included; None for all before it.

    Returns:
        [1, T, H, D'].
    """
    output: torch.Tensor = _Attention.apply(query[0], key[0], value[0], lengths, scale, window)  # type: ignore[no-untyped-call]
    return output[None]


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        lengths: tuple[int, ...],
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        heads, tokens, _ = query.shape
        output = value.new_empty(tokens, heads, value.shape[-1])
        kept = []
        for block in _blocks(lengths, window):
            rows = _rows(query, key.shape[0], block)
            probabilities = _probabilities(rows, _seen(key, block), block, scale, window).to(value.dtype)
            mixed = torch.bmm(probabilities, _seen(value, block))
            output[block.start : block.stop] = _heads(mixed, heads, block).transpose(0, 1)
            if block.num_keys <= KEPT_KEYS:
                kept.append(probabilities)
        ctx.save_for_backward(query, key, value, output, *kept)
        ctx.rest = (lengths, scale, window)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        query, key, value, output, *kept = ctx.saved_tensors
        remembered = iter(kept)
        lengths, scale, window = ctx.rest
        groups = key.shape[0]
        gradient = gradients[0].transpose(0, 1)  # [H, T, D']
        query_gradient = torch.empty_like(query, memory_format=torch.contiguous_format)
        key_gradient = torch.zeros_like(key, memory_format=torch.contiguous_format)
        value_gradient = torch.zeros_like(value, memory_format=torch.contiguous_format)
        means = (gradients[0] * output).sum(-1, dtype=torch.float32).t()[..., None]  # [H, T, 1]
        for block in _blocks(lengths, window):
            rows, keys = _rows(query, groups, block), _seen(key, block)
            probabilities = (
                next(remembered)
                if block.num_keys <= KEPT_KEYS
                else _probabilities(rows, keys, block, scale, window).to(value.dtype)
            )
            incoming = _rows(gradient, groups, block)
            slopes = torch.bmm(incoming, _seen(value, block).transpose(1, 2))
            slopes = (slopes - _rows(means, groups, block)).mul_(probabilities).to(query.dtype)
            query_gradient[:, block.start : block.stop] = _heads(torch.bmm(slopes, keys), query.shape[0], block)
            _add(key_gradient, torch.bmm(slopes.transpose(1, 2), rows), block)
            _add(value_gradient, torch.bmm(probabilities.transpose(1, 2), incoming), block)
        return query_gradient.mul_(scale), key_gradient.mul_(scale), value_gradient, None, None, None


def _blocks(lengths: tuple[int, ...], window: int | None) -> Iterator[_Block]:
    begin = 0
    for length in lengths:
        for start in range(begin, begin + length, BLOCK):
            stop = min(start + BLOCK, begin + length)
            first = begin if window is None else max(begin, start - window + 1)
            grain = grain_of(stop - first)
            num_queries = min(BLOCK, -(-(stop - start) // grain) * grain)
            yield _Block(start, stop, first, num_queries, round_up(start - first + num_queries))
        begin += length


def _rows(heads: torch.Tensor, num_groups: int, block: _Block) -> torch.Tensor:
    """Give a block of [H, T, D] as [K, G * N, D]: the query heads of a key/value head below each other."""
    rows = heads[:, block.start : block.stop]
    missing = block.num_queries - rows.shape[1]
    if missing:
        rows = F.pad(rows, (0, 0, 0, missing))
    return rows.reshape(num_groups, -1, heads.shape[-1])


def _heads(rows: torch.Tensor, num_heads: int, block: _Block) -> torch.Tensor:
    """Give [K, G * N, D] as [H, queries, D], what was filled up cut off."""
    return rows.view(num_heads, block.num_queries, -1)[:, : block.stop - block.start]


def _seen(tokens: torch.Tensor, block: _Block) -> torch.Tensor:
    """Give the keys or values [K, S, D] of a block; beyond its example come others', or zeros, that the mask hides."""
    seen = tokens[:, block.first : block.first + block.num_keys]
    missing = block.num_keys - seen.shape[1]
    return F.pad(seen, (0, 0, 0, missing)) if missing else seen


def _add(total: torch.Tensor, part: torch.Tensor, block: _Block) -> None:
    """Add a block's gradient [K, S, D]; what was filled up, or masked, is 0."""
    seen = total[:, block.first : block.stop]
    seen += part[:, : block.stop - block.first]


def _probabilities(
    rows: torch.Tensor, key: torch.Tensor, block: _Block, scale: float, window: int | None
) -> torch.Tensor:
    """Give the fp32 probabilities [K, G * N, S] of a block."""
    scores = torch.bmm(rows.float() * scale, key.float().transpose(1, 2))
    laid_out = scores.view(key.shape[0], -1, block.num_queries, block.num_keys)
    before = block.start - block.first  # every query sees all keys before its block, unless a window hides them
    own = laid_out[..., before:]
    own += torch.full(own.shape[-2:], float("-inf")).triu_(1)
    if window is not None:
        laid_out += torch.full(laid_out.shape[-2:], float("-inf")).tril_(before - window)
    return torch.softmax(scores, dim=-1)
