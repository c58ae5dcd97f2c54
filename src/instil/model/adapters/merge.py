"""Merges an adapter into its base."""

from __future__ import annotations

from typing import Any

from instil.errors import ModelError
from instil.model.library_noise import quiet_peft
from instil.model.quantization import is_quantized


def merge_in_place(model: Any) -> Any:
    """Add a peft model's adapter into the weights of its base, and return the base.

    Raises:
        ModelError: If the base is quantised: rounding would lose the adapter.
    """
    if is_quantized(model):
        raise ModelError(
            "the base is quantised, and an adapter is never merged into 4-bit or 8-bit weights. "
            "Load the 16-bit base with the adapter and merge that (instil export does)."
        )
    with quiet_peft():
        return model.merge_and_unload()
