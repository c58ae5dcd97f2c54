"""Rotary frequencies that depend on the length of a sequence, and which examples may then share a forward pass.

transformers chooses such frequencies by the longest position of a forward pass. In a flat micro-batch, a long example
would change the frequencies of the short ones beside it, so the result would depend on the micro-batch.

Why: this is read from the model, because `probe` draws only short examples and cannot see it.
"""

from __future__ import annotations

from typing import Any

import torch

from instil.errors import ModelError


def mixes_lengths(model: torch.nn.Module, longest: int) -> bool:
    """Return whether a forward pass must hold one example only, because rotary frequencies depend on its length.

    Args:
        model: transformers' model, or peft's around it.
        longest: Number of tokens of the longest example.

    Returns:
        True if a model with ``longrope`` (Phi-3 128k, MiniCPM) would get examples both below and above its first
        length.

    Raises:
        ModelError: If the frequencies would also depend on earlier forward passes (``dynamic`` scaling).
    """
    mixes = False
    for kind, limit in _limits(model):
        if longest > limit and "dynamic" in kind:
            raise ModelError(
                f"{type(model).__name__}: its rotary frequencies grow with the longest sequence seen so far (rope type "
                f"{kind}), and the longest example has {longest} tokens. Expected at most {limit}, beyond which that "
                f"starts. Set data.max_tokens: {limit}."
            )
        mixes = mixes or longest > limit
    return mixes


def switch_of(model: torch.nn.Module) -> int | None:
    """Return the length beyond which a ``longrope`` model uses other frequencies; None for other models."""
    return min((limit for kind, limit in _limits(model) if kind == "longrope"), default=None)


def _limits(model: torch.nn.Module) -> list[tuple[str, int]]:
    """Return each kind of length-dependent frequencies with the length up to which they stay the same."""
    limits: list[tuple[str, int]] = []
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        for layers, kind in (kinds if isinstance(kinds, dict) else {None: kinds}).items():
            if kind == "longrope":
                limits.append((kind, _first_length(module, layers)))
            elif isinstance(kind, str) and "dynamic" in kind:
                limits.append((kind, int(module.original_max_seq_len)))  # type: ignore[arg-type]
    return limits


def _first_length(module: Any, layers: str | None) -> int:
    parameters = module.config.rope_parameters
    parameters = parameters if layers is None else parameters[layers]
    return int(parameters["original_max_position_embeddings"])
