"""Write what a run made: the model folder, the adapter, the numbers.

Last stop of training. With adapters the run holds both: ``adapter/`` as peft writes it, and ``model/`` with the adapter merged in.
A quantised base is never merged into: its 16-bit original is loaded anew for that.
"""

from __future__ import annotations

from typing import Any

import torch

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.model.adapters.merge import merge_in_place
from instil.model.adapters.saved import open_adapter
from instil.model.folder.location import ModelLocation
from instil.model.folder.saving import save_model_folder
from instil.model.loading import load_model
from instil.model.new_tokens import TokenChange, fit_embeddings
from instil.model.quantization import is_quantized
from instil.recipe import Recipe
from instil.training.records.run_folder import RunPaths


def save_trained(
    model: Any,
    chat: ChatTokenizer,
    paths: RunPaths,
    *,
    recipe: Recipe,
    location: ModelLocation,
    change: TokenChange,
) -> None:
    """Write ``model/``, and ``adapter/`` where the run trained one.

    Args:
        model: The trained model; an adapter is merged into it, so it is not to be used afterwards.
        chat: Its tokenizer and template.
        paths: The run folder.
        recipe: The resolved recipe.
        location: The base's place.
        change: What was done to the tokenizer.
    """
    if hasattr(model, "peft_config"):
        if location.kind == "hub":
            for config in model.peft_config.values():
                config.revision = recipe.model.revision
        save_model_folder(model, chat, paths.adapter, base=location.base_name)
        if is_quantized(model):
            settings = recipe.model.model_copy(update={"quantize": "none"})
            model = load_model(settings, precision="pure_bf16", location=location, seed=recipe.training.seed)
            fit_embeddings(model, chat.tokenizer, change, stop_ids=chat.stop_ids, seed=recipe.training.seed)
            model = open_adapter(model, paths.adapter, trains=False)
        model = merge_in_place(model)
    save_model_folder(model, chat, paths.model)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
