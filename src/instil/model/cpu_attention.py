"""Causal attention of a flat micro-batch on a CPU, by matrix products, block by block of queries.

PyTorch's CPU FlashAttention takes several times as long in bf16 as the products that it stands for (docs/notes/model.md), and
knows no windows. Here scores are computed and normalised in fp32, as it does, and the products run in the tensors' own type.
Nothing of size L x L is kept for the backward pass: probabilities are computed again, a block at a time.

Shapes: T tokens of all examples, L of one, H query heads, K key/value heads, G = H / K, D head width, N queries of a block,
S keys of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

BLOCK = 128


@dataclass(frozen=True)
class _Block:
    """Half-open token ranges: queries, the keys that any of them sees, and the start of their example."""

    start: int
    stop: int
    first: int


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
        for block in _blocks(lengths, window):
            rows = _rows(query, key.shape[0], block)
            probabilities = _probabilities(rows, key[:, block.first : block.stop], block, scale, window)
            mixed = torch.bmm(probabilities.to(value.dtype), value[:, block.first : block.stop])
            output[block.start : block.stop] = mixed.view(heads, -1, value.shape[-1]).transpose(0, 1)
        ctx.save_for_backward(query, key, value, output)
        ctx.rest = (lengths, scale, window)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        query, key, value, output = ctx.saved_tensors
        lengths, scale, window = ctx.rest
        gradient = gradients[0]
        query_gradient = torch.empty_like(query, memory_format=torch.contiguous_format)
        key_gradient = torch.zeros_like(key, memory_format=torch.contiguous_format)
        value_gradient = torch.zeros_like(value, memory_format=torch.contiguous_format)
        means = (gradient * output).sum(-1, dtype=torch.float32).t()  # [H, T]
        for block in _blocks(lengths, window):
            seen, asked = slice(block.first, block.stop), slice(block.start, block.stop)
            rows = _rows(query, key.shape[0], block)
            probabilities = _probabilities(rows, key[:, seen], block, scale, window)
            incoming = _rows(gradient.transpose(0, 1), key.shape[0], block)
            slopes = torch.bmm(incoming, value[:, seen].transpose(1, 2))
            slopes = (slopes - means[:, asked].reshape(key.shape[0], -1, 1)).mul_(probabilities).to(query.dtype)
            query_gradient[:, asked] = torch.bmm(slopes, key[:, seen]).view(query.shape[0], -1, query.shape[-1])
            key_gradient[:, seen] += torch.bmm(slopes.transpose(1, 2), rows)
            value_gradient[:, seen] += torch.bmm(probabilities.to(value.dtype).transpose(1, 2), incoming)
        return query_gradient.mul_(scale), key_gradient.mul_(scale), value_gradient, None, None, None


def _blocks(lengths: tuple[int, ...], window: int | None) -> Iterator[_Block]:
    begin = 0
    for length in lengths:
        for start in range(begin, begin + length, BLOCK):
            stop = min(start + BLOCK, begin + length)
            yield _Block(start, stop, begin if window is None else max(begin, start - window + 1))
        begin += length


def _rows(heads: torch.Tensor, num_groups: int, block: _Block) -> torch.Tensor:
    """Give a block of [H, T, D] as [K, G * N, D]: the query heads of a key/value head below each other."""
    return heads[:, block.start : block.stop].reshape(num_groups, -1, heads.shape[-1])


def _probabilities(
    rows: torch.Tensor, key: torch.Tensor, block: _Block, scale: float, window: int | None
) -> torch.Tensor:
    """Give the fp32 probabilities [K, G * N, S] of a block."""
    num_queries, num_keys = block.stop - block.start, block.stop - block.first
    scores = torch.bmm(rows.float() * scale, key.float().transpose(1, 2))
    laid_out = scores.view(key.shape[0], -1, num_queries, num_keys)
    diagonal = laid_out[..., num_keys - num_queries :]  # every query sees all keys before its block
    diagonal += torch.full((num_queries, num_queries), float("-inf")).triu_(1)
    if window is not None:
        laid_out += torch.full((num_queries, num_keys), float("-inf")).tril_(num_keys - num_queries - window)
    return torch.softmax(scores, dim=-1)
