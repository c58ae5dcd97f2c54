"""Attention over a flat micro-batch: every example by itself.

Registered in transformers' attention interface as ``instil``; transformers builds no mask for a name that its mask interface
does not know, so windows, soft caps and sinks come as keywords and the layout of the examples as another (see `layout`).
Four kernels serve: PyTorch's variable-length FlashAttention (CUDA, half precision), `cpu_attention` (CPU, bf16 or windows),
scaled-dot-product attention example by example (anywhere), and plain blockwise arithmetic for what none of them can do. Questionable on purpose: the module's keywords,
not masks, decide what a token sees; `probe` compares the outcome with transformers' own masks before a run starts.

Shapes: B = 1 row, H query heads, K key/value heads, T tokens, L tokens of one example, D head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from instil.errors import ModelError
from instil.model.attention.cpu import attend_on_cpu
from instil.model.attention.layout import FlatLayout, active_layout

NAME = "instil"
LAYOUT_KEYWORD = "instil_layout"
BLOCK = 1024
"""Queries that the plain kernel takes at once; longer examples are cut, so that memory grows with BLOCK * L."""


@dataclass(frozen=True)
class Features:
    """What one layer asks of attention beyond plain causal softmax.

    Attributes:
        scale: Factor on the scores.
        window: Tokens that a token sees, itself included; None for all before it.
        softcap: Scores become ``softcap * tanh(score / softcap)``.
        sinks: H logits that take part in the softmax and carry no value, or None.
        dropout: Share of the probabilities set to 0.
    """

    scale: float
    window: int | None = None
    softcap: float | None = None
    sinks: torch.Tensor | None = None
    dropout: float = 0.0


def register() -> str:
    """Make the attention function known to transformers and give its name. Calling it again changes nothing."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    return NAME


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **keywords: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within each example; the signature is that of transformers' attention interface.

    Args:
        module: The attention layer, asked only for what it does not pass: whether it is causal.
        query: [1, H, T, D].
        key: [1, K, T, D], K divides H.
        value: [1, K, T, D'].
        attention_mask: Must be None: the layout decides.
        keywords: The layer's `scaling`, `dropout`, `sliding_window`, `softcap`, `s_aux`, and the layout.

    Returns:
        [1, T, H, D'] and None.

    Raises:
        ModelError: If there is no layout, it is of other tokens, or the layer is not causal.
    """
    layout = keywords.get(LAYOUT_KEYWORD) or active_layout()
    _check(module, query, key, layout, attention_mask, keywords)
    assert layout is not None
    chunk = _chunk_of(module)
    if chunk is not None and chunk < layout.longest:
        layout = _in_chunks(layout, chunk)
    window = keywords.get("sliding_window")
    dropout = keywords.get("dropout") or 0.0
    scale = keywords.get("scaling")
    features = Features(
        scale=query.shape[-1] ** -0.5 if scale is None else float(scale),
        window=window if isinstance(window, int) and window < layout.longest else None,
        softcap=keywords.get("softcap"),
        sinks=keywords.get("s_aux"),
        dropout=float(dropout),
    )
    if _varlen_serves(query, value, features):
        return _varlen(query, key, value, layout, features), None
    if _products_serve(query, features):
        output = attend_on_cpu(query, key, value, lengths=layout.lengths, scale=features.scale, window=features.window)
        return output, None
    return _example_by_example(query, key, value, layout, features), None


def _check(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    layout: FlatLayout | None,
    attention_mask: torch.Tensor | None,
    keywords: dict[str, Any],
) -> None:
    name = type(module).__name__
    if layout is None:
        raise ModelError(
            f"{name}: attention {NAME!r} has no layout of examples; it serves training through TokenLoss; "
            "use the generation attention for anything else (model.attention_choice.set_attention)"
        )
    if query.shape[0] != 1 or query.shape[2] != layout.num_tokens or key.shape[2] != layout.num_tokens:
        raise ModelError(
            f"{name}: attention over {query.shape[0]} x {query.shape[2]} queries and {key.shape[2]} keys, but the layout "
            f"has {layout.num_tokens} tokens in one row; keys that belong to no token are not supported, and a forward pass must be "
            "followed by its own backward pass"
        )
    causal = keywords.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    if not causal or attention_mask is not None or keywords.get("position_bias") is not None:
        raise ModelError(f"{name}: bidirectional, masked or biased attention; instil trains causal language models")


def _chunk_of(module: torch.nn.Module) -> int | None:
    """Give the tokens of a chunk where a layer sees its own chunk only (Llama 4), which transformers says in its mask alone."""
    config, layer = getattr(module, "config", None), getattr(module, "layer_idx", None)
    types = getattr(config, "layer_types", None)
    if not types or not isinstance(layer, int) or layer >= len(types) or types[layer] != "chunked_attention":
        return None
    size = getattr(config, "attention_chunk_size", None)
    return None if size is None else int(size)


def _in_chunks(layout: FlatLayout, chunk: int) -> FlatLayout:
    """Cut every example into chunks, counted from its start, which attend like examples of their own.

    Example:
        >>> _in_chunks(FlatLayout.of([5, 2]), 3).lengths
        (3, 2, 2)
    """
    starts = ((length, start) for length in layout.lengths for start in range(0, length, chunk))
    return FlatLayout.of([min(chunk, length - start) for length, start in starts], device=layout.boundaries.device)


def _example_by_example(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: FlatLayout, features: Features
) -> torch.Tensor:
    """Run each example by itself.

    `split`, not slices: the backward pass of a slice fills a zero tensor of all T tokens for each example.
    """
    lengths = list(layout.lengths)
    one = _one_sdpa if features.softcap is None and features.sinks is None else _one_plain
    if len(lengths) == 1:
        return one(query, key, value, features).transpose(1, 2)
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


def _one_plain(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, features: Features) -> torch.Tensor:
    """Attend with plain arithmetic, block by block of queries, recomputing blocks in the backward pass."""
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
    """Give the [queries, keys] truth table: which keys, counted from `first`, the queries from `start` see."""
    queries = torch.arange(start, start + num_queries, device=device)[:, None]
    keys = torch.arange(first, first + (num_queries if num_keys is None else num_keys), device=device)[None, :]
    visible = keys <= queries
    return visible if window is None else visible & (keys > queries - window)


def _varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: FlatLayout, features: Features
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    longest = layout.longest
    window = -1 if features.window is None else features.window - 1
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
        scale=features.scale,
        window_size=(window, 0),
        **grouped,
    )
    assert isinstance(output, torch.Tensor)
    return output[None]


def _products_serve(query: torch.Tensor, features: Features) -> bool:
    """Say whether `cpu_attention` is the fastest: bf16, which PyTorch's CPU kernel is slow in, and windows, which it lacks."""
    plain = features.softcap is None and features.sinks is None and features.dropout == 0.0
    return plain and query.device.type == "cpu" and (query.dtype == torch.bfloat16 or features.window is not None)


def _varlen_serves(query: torch.Tensor, value: torch.Tensor, features: Features) -> bool:
    plain = features.softcap is None and features.sinks is None and features.dropout == 0.0
    width = query.shape[-1]
    return (
        plain
        and query.is_cuda
        and width == value.shape[-1]
        and width <= 256
        and width % 8 == 0
        and why_no_varlen(query.device.index or 0, query.dtype) is None
    )


@lru_cache
def why_no_varlen(device_index: int, dtype: torch.dtype) -> str | None:
    """Say why PyTorch's variable-length FlashAttention cannot serve on this CUDA device, or None where it can."""
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
    """Name the parameters of PyTorch's variable-length attention; empty where there is none."""
    import inspect

    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return frozenset()
    return frozenset(inspect.signature(varlen_attn).parameters)


def describe(*, device: torch.device | str, dtype: torch.dtype, config: Any = None) -> str:
    """Name the attention kernels that a run will use, for the run card.

    Args:
        device: Where the model is.
        dtype: The type that queries are in, which under autocast is the arithmetic's.
        config: The model's config; soft caps, sinks and windows are read from it.

    Example:
        >>> describe(device="cpu", dtype=torch.float32)
        'scaled-dot-product attention, example by example'
    """
    device = torch.device(device)
    capped = getattr(config, "attn_logit_softcapping", None) is not None
    sinks = getattr(config, "model_type", "") == "gpt_oss"
    if capped or sinks:
        return f"plain blockwise attention, example by example ({'soft cap' if capped else 'sinks'})"
    if device.type == "cuda":
        reason = why_no_varlen(device.index or 0, dtype)
        if reason is None:
            return "PyTorch's variable-length FlashAttention"
        return f"scaled-dot-product attention, example by example (variable-length FlashAttention: {reason})"
    if device.type == "cpu" and dtype == torch.bfloat16:
        return "blockwise matrix products on the CPU, example by example"
    return "scaled-dot-product attention, example by example"
