"""Gradient checkpointing: the blocks' activations are recomputed in the backward pass, to save memory."""

from __future__ import annotations

from typing import Any

from instil.errors import ModelError
from instil.model.underlying import underlying


def set_gradient_checkpointing(model: Any, on: bool) -> None:
    """Switch gradient checkpointing of all blocks on or off; losses and gradients stay the same.

    Args:
        model: transformers' model, or peft's around it.
        on: Whether to recompute activations.

    Raises:
        ModelError: If the architecture does not support it.
    """
    inner = underlying(model)
    new_name = hasattr(inner, "activation_checkpointing_enable")  # transformers 5.20 renamed the pair
    word = "activation" if new_name else "gradient"
    if not on:
        getattr(inner, f"{word}_checkpointing_disable")()
        return
    if not getattr(inner, "supports_gradient_checkpointing", False):
        raise ModelError(
            f"training.gradient_checkpointing: {type(inner).__name__} cannot recompute its blocks. Expected an "
            "architecture that supports it. Set it to off."
        )
    getattr(inner, f"{word}_checkpointing_enable")({"use_reentrant": False})
