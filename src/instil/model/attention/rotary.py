"""Rotary frequencies that depend on how long a sequence is, and what may then share a forward pass.

transformers chooses such frequencies by the longest position of a forward pass. Laid end to end, a long example would change those of the
short ones beside it, so that the cut would change the result. Questionable on purpose: `probe` cannot see this, since it draws short examples.
"""

from __future__ import annotations

from typing import Any

import torch

from instil.errors import ModelError


def mixes_lengths(model: torch.nn.Module, longest: int) -> bool:
    """Say whether examples of up to so many tokens must go one a forward pass because of their rotary frequencies.

    Args:
        model: transformers' model, or peft's around it.
        longest: Tokens of the longest example.

    Returns:
        True where a model with ``longrope`` (Phi-3 128k, MiniCPM) would see examples on both sides of its first length.

    Raises:
        ModelError: If the frequencies would also depend on the forward passes before (``dynamic`` scaling).
    """
    mixes = False
    for kind, limit in _limits(model):
        if longest > limit and "dynamic" in kind:
            raise ModelError(
                f"{type(model).__name__}: its rotary frequencies grow with the longest sequence seen so far (rope type {kind}), and the "
                f"longest example has {longest} tokens where that starts past {limit}; set data.max_tokens: {limit}"
            )
        mixes = mixes or longest > limit
    return mixes


def switch_of(model: torch.nn.Module) -> int | None:
    """Give the length past which a ``longrope`` model rotates otherwise; None for other models."""
    return min((limit for kind, limit in _limits(model) if kind == "longrope"), default=None)


def _limits(model: torch.nn.Module) -> list[tuple[str, int]]:
    """Give each kind of frequencies that depends on length, with the length up to which they stay the same."""
    found: list[tuple[str, int]] = []
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        for layers, kind in (kinds if isinstance(kinds, dict) else {None: kinds}).items():
            if kind == "longrope":
                found.append((kind, _first_length(module, layers)))
            elif isinstance(kind, str) and "dynamic" in kind:
                found.append((kind, int(module.original_max_seq_len)))  # type: ignore[arg-type]
    return found


def _first_length(module: Any, layers: str | None) -> int:
    parameters = module.config.rope_parameters
    parameters = parameters if layers is None else parameters[layers]
    return int(parameters["original_max_position_embeddings"])
