"""Exports of a model that is stored quantised, and of an adapter whose base is.

Such weights have no 16-bit original. They are unpacked, as a run does that trained on such a base, and exported like
any others.

Why: peft cannot merge into quantised weights without rounding the adapter, and transformers cannot write them in
another type.
"""

from __future__ import annotations

from typing import Any

import torch

from instil.generation.engine import Engine
from instil.model.adapters.saved import open_adapter
from instil.model.quantization import is_quantized, unpack_weights


def with_ordinary_weights(engine: Engine, dtype: torch.dtype) -> Engine:
    """Return a model with its quantised weights unpacked; its adapter stays an adapter.

    Args:
        engine: The model. If its weights are quantised, it cannot be used afterwards.
        dtype: Type of the unpacked weights.
    """
    model: Any = engine.model
    if not is_quantized(model):
        return engine
    if hasattr(model, "peft_config"):
        assert engine.location is not None
        assert engine.location.adapter_folder is not None
        # The layers of an adapter differ by what they wrap, so it is opened anew.
        model = open_adapter(unpack_weights(model.unload(), dtype), engine.location.adapter_folder, trains=False)
    else:
        model = unpack_weights(model, dtype)
    return Engine(model.eval(), engine.tokenizer, chat=engine.chat, name=engine.name, location=engine.location)
