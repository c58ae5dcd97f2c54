"""Attention kernels that run each example by itself: scaled-dot-product attention, and plain blockwise arithmetic.

Shapes: H query heads, K key/value heads, T tokens of all examples, L tokens of one example, D and D' widths of keys and
values.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from instil.model.attention.layout import FlatLayout
from instil.model.attention.varlen import why_no_varlen

WIDEST_FLASH = 256
"""The widest heads that FlashAttention takes."""
BLOCK = 1024
"""Queries that the plain kernel computes at once; longer examples are cut, so that memory grows with BLOCK * L."""


@dataclass(frozen=True)
class Features:
    """What one layer needs of attention beyond the plain causal softmax.

    Attributes:
        scale: Factor on the scores.
        window: Number of tokens that a token sees, itself included; None for all before it.
        softcap: Scores become ``softcap * tanh(score / softcap)``.
        sinks: H logits that take part in the softmax and carry no value, or None.
        dropout: Fraction of the probabilities set to 0.
    """

    scale: float
    window: int | None = None
    softcap: float | None = None
    sinks: torch.Tensor | None = None
    dropout: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing besides a scale and a window."""
        return self.softcap is None and self.sinks is None and self.dropout == 0.0


def attend_by_example(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, layout: FlatLayout, features: Features
) -> torch.Tensor:
    """Run each example by itself.

    Args:
        query: [1, H, T, D].
        key: [1, K, T, D].
        value: [1, K, T, D'].
        layout: The examples.
        features: What the layer needs.

    Returns:
        [1, T, H, D'].
    """
    lengths = list(layout.lengths)
    one = _one_sdpa if features.softcap is None and features.sinks is None else _one_plain
    if len(lengths) == 1:
        return one(query, key, value, features).transpose(1, 2)
    # `split`, not slices: the backward pass of a slice would fill a zero tensor of all T tokens for each example.
    parts = zip(
        torch.split(query, lengths, 2), torch.split(key, lengths, 2), torch.split(value, lengths, 2), strict=True
    )
    return torch.cat([one(q, k, v, features).transpose(1, 2) for q, k, v in parts], dim=1)


def _one_sdpa(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, features: Features) -> torch.Tensor:
    length = query.shape[2]
    mask = None
    if features.window is not None and features.window < length:
        if length > BLOCK:
            return _one_plain(query, key, value, features)
        mask = _visible(0, length, 0, features.window, device=query.device)
    if query.shape[1] != key.shape[1] and _needs_equal_heads(query, mask):
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    return F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=features.dropout,
        is_causal=mask is None and length > 1,
        scale=features.scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _needs_equal_heads(query: torch.Tensor, mask: torch.Tensor | None) -> bool:
    """Return whether torch has no fused kernel for grouped heads here: on CUDA without FlashAttention.

    Why: fp32, GPUs before compute capability 8.0, masks and heads wider than 256 are left to memory-efficient attention, which takes equal
    heads only. With grouped ones torch takes plain arithmetic, which keeps [H, L, L] probabilities in each layer.

    Source:
        aten/src/ATen/native/transformers/cuda/sdp_utils.cpp, `can_use_mem_efficient_attention`.
    """
    if not query.is_cuda:
        return False
    wide = query.shape[-1] > WIDEST_FLASH
    return wide or mask is not None or why_no_varlen(query.device.index or 0, query.dtype) is not None


def _one_plain(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, features: Features) -> torch.Tensor:
    """Attend with plain arithmetic, block by block of queries; the backward pass computes the blocks again."""
    length = query.shape[2]
    outputs = []
    for start in range(0, length, BLOCK):
        stop = min(start + BLOCK, length)
        first = 0 if features.window is None else max(0, start - features.window + 1)
        block = (query[:, :, start:stop], key[:, :, first:stop], value[:, :, first:stop], features, start, first)
        if length > BLOCK and torch.is_grad_enabled():
            outputs.append(checkpoint(_plain_block, *block, use_reentrant=False))
        else:
            outputs.append(_plain_block(*block))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)


def _plain_block(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, features: Features, start: int, first: int
) -> torch.Tensor:
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = torch.matmul(query, key.transpose(2, 3)).float() * features.scale
    if features.softcap is not None:
        scores = torch.tanh(scores / features.softcap) * features.softcap
    visible = _visible(start, query.shape[2], first, features.window, num_keys=key.shape[2], device=query.device)
    scores = scores.masked_fill(~visible, float("-inf"))
    if features.sinks is not None:
        sinks = features.sinks.float().reshape(1, -1, 1, 1).expand(1, -1, query.shape[2], 1)
        probabilities = torch.softmax(torch.cat([scores, sinks], dim=-1), dim=-1)[..., :-1]
    else:
        probabilities = torch.softmax(scores, dim=-1)
    probabilities = F.dropout(probabilities, features.dropout, training=features.dropout > 0)
    return torch.matmul(probabilities.to(value.dtype), value)


def _visible(
    start: int, num_queries: int, first: int, window: int | None, *, device: torch.device, num_keys: int | None = None
) -> torch.Tensor:
    """Return the [queries, keys] mask: which keys, counted from `first`, the queries from `start` on see."""
    queries = torch.arange(start, start + num_queries, device=device)[:, None]
    keys = torch.arange(first, first + (num_queries if num_keys is None else num_keys), device=device)[None, :]
    visible = keys <= queries
    return visible if window is None else visible & (keys > queries - window)
