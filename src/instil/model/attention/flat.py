"""Attention over a flat micro-batch, in which every example attends to itself only.

Registered in transformers' attention interface as ``instil``. transformers makes no mask for a name that its mask
interface does not know, so windows, soft caps and sinks arrive as keywords, and the layout of the examples as another
one (see `layout`).

Four kernels serve, the first that can:

1. `varlen`: PyTorch's variable-length FlashAttention (CUDA, half precision),
2. `cpu`: blockwise matrix products (CPU; bf16 or windows),
3. `by_example`: scaled-dot-product attention, example by example (everywhere),
4. `by_example`: plain blockwise arithmetic, for soft caps, sinks and long windows, which the others lack.

Why: a layer's keywords, not masks, decide what a token sees. `probe` compares the result with transformers' own masks
before a run starts.

If several processes share the tokens, they exchange them for heads before the kernel, and back after it (`sequence`).

Shapes: B = 1 row, H query heads, K key/value heads, T tokens, D and D' widths of keys and values.
"""

from __future__ import annotations

from typing import Any

import torch

from instil.errors import ModelError
from instil.model.attention.by_example import WIDEST_FLASH, Features, attend_by_example
from instil.model.attention.cpu import attend_on_cpu
from instil.model.attention.layout import FlatLayout, active_layout
from instil.model.attention.same_bits import after_attention, before_attention, wants_same_bits
from instil.model.attention.sequence import own_heads, to_heads, to_tokens
from instil.model.attention.varlen import attend_varlen, why_no_varlen

ATTENTION_NAME = "instil"
LAYOUT_KEYWORD = "instil_layout"


def register_attention() -> str:
    """Register the attention function with transformers and return its name. Calling it again changes nothing."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION_NAME, attend)
    return ATTENTION_NAME


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
        module: The attention layer; read for what it does not pass: whether it is causal, and its chunks.
        query: [1, H, T, D]; T counts the tokens that this process holds.
        key: [1, K, T, D], K divides H.
        value: [1, K, T, D'].
        attention_mask: Must be None: the layout decides.
        keywords: The layer's `scaling`, `dropout`, `sliding_window`, `softcap`, `s_aux`, and the layout.

    Returns:
        [1, T, H, D'] and None.

    Raises:
        ModelError: If there is no layout, the layout belongs to other tokens, or the layer is not causal.
    """
    layout = keywords.get(LAYOUT_KEYWORD) or active_layout()
    _check(module, query, key, layout, attention_mask, keywords)
    assert layout is not None
    group, sinks = layout.sequence, keywords.get("s_aux")
    num_heads, num_key_heads = query.shape[1], key.shape[1]
    if group is not None:
        query, key, value = to_heads(query, key, value, group, name=type(module).__name__)
        sinks = None if sinks is None else own_heads(sinks, group, num_key_heads=num_key_heads)
    output = _attend_in_full(module, query, key, value, layout, sinks, keywords)
    if group is not None:
        output = to_tokens(output, group, num_heads=num_heads, num_key_heads=num_key_heads)
    return output, None


def _attend_in_full(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: FlatLayout,
    sinks: torch.Tensor | None,
    keywords: dict[str, Any],
) -> torch.Tensor:
    """Attend with all tokens of the layout present, with the first kernel that can; return [1, T, H, D']."""
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
        sinks=sinks,
        dropout=float(dropout),
    )
    if not wants_same_bits(query):
        return _run(query, key, value, layout=layout, features=features)
    query, key, value = before_attention(query, key, value)
    return after_attention(_run(query, key, value, layout=layout, features=features))


def _run(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, layout: FlatLayout, features: Features
) -> torch.Tensor:
    """Run the first kernel that can serve; return [1, T, H, D']."""
    if _varlen_serves(query, value, features):
        return attend_varlen(query, key, value, layout=layout, scale=features.scale, window=features.window)
    if _cpu_products_serve(query, features):
        return attend_on_cpu(query, key, value, lengths=layout.lengths, scale=features.scale, window=features.window)
    return attend_by_example(query, key, value, layout=layout, features=features)


def describe_attention(*, device: torch.device | str, dtype: torch.dtype, config: Any = None) -> str:
    """Name the attention kernel that a run will use, for the run card.

    Args:
        device: Where the model is.
        dtype: The type of queries; under autocast, the type of the arithmetic.
        config: The model's config; soft caps and sinks are read from it.

    Example:
        >>> describe_attention(device="cpu", dtype=torch.float32)
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
            f"{name}: attention {ATTENTION_NAME!r} has no layout of examples. Expected training through TokenLoss. "
            "For anything else switch to the generation attention (instil.model.attention.switch.set_attention)."
        )
    held = layout.part.stop - layout.part.start
    if query.shape[0] != 1 or query.shape[2] != held or key.shape[2] != held:
        raise ModelError(
            f"{name}: attention over {query.shape[0]} x {query.shape[2]} queries and {key.shape[2]} keys, but the "
            f"layout has {held} tokens here in one row. Keys that belong to no token are not supported, and a "
            "forward pass must be followed by its own backward pass."
        )
    causal = keywords.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    if not causal or attention_mask is not None or keywords.get("position_bias") is not None:
        raise ModelError(
            f"{name}: bidirectional, masked or biased attention. Expected causal attention. Choose a causal language "
            "model."
        )


def _chunk_of(module: torch.nn.Module) -> int | None:
    """Return the chunk size if tokens see only their own chunk (Llama 4), which only transformers' mask says."""
    config, layer = getattr(module, "config", None), getattr(module, "layer_idx", None)
    types = getattr(config, "layer_types", None)
    if not types or not isinstance(layer, int) or layer >= len(types) or types[layer] != "chunked_attention":
        return None
    size = getattr(config, "attention_chunk_size", None)
    return None if size is None else int(size)


def _in_chunks(layout: FlatLayout, chunk: int) -> FlatLayout:
    """Cut every example into chunks, counted from its start; each chunk then attends like an example of its own.

    Example:
        >>> _in_chunks(FlatLayout.of([5, 2]), 3).lengths
        (3, 2, 2)
    """
    starts = ((length, start) for length in layout.lengths for start in range(0, length, chunk))
    return FlatLayout.of([min(chunk, length - start) for length, start in starts], device=layout.boundaries.device)


def _varlen_serves(query: torch.Tensor, value: torch.Tensor, features: Features) -> bool:
    """Return whether variable-length FlashAttention can compute this layer: CUDA, half precision, supported widths."""
    width = query.shape[-1]
    return (
        features.is_plain
        and query.is_cuda
        and width == value.shape[-1]
        and width <= WIDEST_FLASH
        and width % 8 == 0
        and why_no_varlen(query.device.index or 0, query.dtype) is None
    )


def _cpu_products_serve(query: torch.Tensor, features: Features) -> bool:
    """Return whether `attend_on_cpu` is fastest: for bf16, in which PyTorch's CPU kernel is slow, and for windows."""
    on_cpu = query.device.type == "cpu"
    return features.is_plain and on_cpu and (query.dtype == torch.bfloat16 or features.window is not None)
