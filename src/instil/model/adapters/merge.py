"""Merges an adapter into its base.

Why: an adapter on a tied embedding or head changes one use of the weight and not the other. Both uses get a weight of
their own before such an adapter is merged.
"""

from __future__ import annotations

from typing import Any

import torch

from instil.errors import ModelError
from instil.model.library_noise import quiet_peft
from instil.model.quantization import is_quantized
from instil.screen import work


@work("merging the adapter")
def merge_in_place(model: Any) -> Any:
    """Add a peft model's adapter into the weights of its base, and return the base.

    If the adapter is on a tied embedding or head, the two are untied, in the config too.

    Raises:
        ModelError: If the base is quantised: rounding would lose the adapter.
    """
    if is_quantized(model):
        raise ModelError(
            "the base is quantised, and an adapter is never merged into 4-bit or 8-bit weights. "
            "Load the 16-bit base with the adapter and merge that (instil export does)."
        )
    _untie_adapted(model)
    with quiet_peft():
        return model.merge_and_unload()


def _untie_adapted(model: Any) -> None:
    """Give the head a copy of the embedding's weight if they are one tensor and an adapter changes one use of it."""
    from peft.tuners.lora.layer import LoraLayer

    base = model.get_base_model()
    embedding, head = base.get_input_embeddings(), base.get_output_embeddings()
    if head is None or not (isinstance(embedding, LoraLayer) or isinstance(head, LoraLayer)):
        return
    embedding_layer, head_layer = _base_layer(embedding), _base_layer(head)
    if head_layer.weight is not embedding_layer.weight:
        return
    head_layer.weight = torch.nn.Parameter(head_layer.weight.detach().clone(), requires_grad=False)
    for config in (base.config, base.config.get_text_config(decoder=True)):
        config.tie_word_embeddings = False


def _base_layer(module: Any) -> Any:
    return module.get_base_layer() if hasattr(module, "get_base_layer") else module
