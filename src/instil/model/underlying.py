"""The model inside a wrapper. Its own file, because the files of a model are read without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def underlying(model: nn.Module) -> Any:
    """Return transformers' model inside a peft wrapper, or the model itself."""
    unwrap = getattr(model, "get_base_model", None)
    return unwrap() if callable(unwrap) else model
