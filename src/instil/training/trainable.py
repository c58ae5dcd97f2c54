"""What of a model trains: rows for new tokens, adapters, and everything that is not frozen.

Asked twice for the same recipe: of a model without weights before the data is prepared, and of the loaded one.

Why: which rows of existing tokens look untrained is known from the weights alone. The first time only rows of new
tokens are certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from instil.model.adapters.lora import prepare_adapters
from instil.model.adapters.saved import open_adapter
from instil.model.chat_tokens import TokenChange
from instil.model.folder.location import ModelLocation
from instil.model.freezing import freeze
from instil.model.loading import lighten_layers
from instil.model.new_tokens import add_rows, rowless_ids
from instil.model.underlying import underlying
from instil.recipe import AdapterSettings, TrainingSettings


def make_trainable(
    model: Any,
    *,
    adapter: AdapterSettings,
    frozen: Sequence[str],
    trained_ids: Sequence[int],
    seed: int,
) -> Any:
    """Put adapters on a model whose embedding has its final size, and freeze what the recipe names.

    Args:
        model: transformers' model, or peft's if the recipe's model is an adapter.
        adapter: The recipe's `adapter`.
        frozen: Patterns of parameter names to freeze.
        trained_ids: Tokens whose rows train even if the rest is frozen.
        seed: Seed of the adapters' first weights.

    Raises:
        ModelError: If adapter targets, frozen names and model do not fit together.
    """
    model = prepare_adapters(model, adapter, trained_ids=trained_ids, seed=seed)
    if frozen:
        freeze(model, frozen)
    return model


def make_empty_trainable(
    model: Any,
    location: ModelLocation,
    *,
    adapter: AdapterSettings,
    training: TrainingSettings,
    tokenizer: Any,
    change: TokenChange,
    device: torch.device,
) -> Any:
    """Turn a model on `meta` into what will train, to find mistakes and plan its memory without weights.

    Args:
        model: transformers' model on `meta`.
        location: Where the model is.
        adapter: The recipe's `adapter`.
        training: The recipe's `training`.
        tokenizer: The tokenizer with its new tokens.
        change: What was changed in it.
        device: Where the run computes.

    Raises:
        ModelError: As `make_trainable`, and if the embedding cannot be resized or a continued adapter does not fit.
    """
    lighten_layers(model, device)
    # New tokens of a model without their rows are among them.
    new_ids = list(rowless_ids(tokenizer, underlying(model).get_input_embeddings().weight.shape[0]))
    new_ids = sorted({*new_ids, *(int(tokenizer.convert_tokens_to_ids(token)) for token in change.added)})
    more_rows_may_train = adapter.kind != "none" and bool(change.control_ids) and not new_ids
    # Those rows would get parameters of their own, and `freeze` may name them. So it is not checked on this model.
    frozen = [] if more_rows_may_train else training.freeze
    with torch.device("meta"):
        if location.adapter_folder is not None:
            model = open_adapter(model, location.adapter_folder, trains=True)
        add_rows(underlying(model), len(tokenizer))
        model = make_trainable(
            model,
            adapter=adapter,
            frozen=frozen,
            trained_ids=new_ids,
            seed=training.seed,
        )
        return model.train()
