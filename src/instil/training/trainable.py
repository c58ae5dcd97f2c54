"""What of a model learns: rows for new tokens, adapters, and what a recipe freezes.

Asked twice of the same recipe: of a model without content while nothing is prepared yet, and of the loaded one. Questionable on purpose:
which rows of tokens that were there look untrained is known from the weights alone, so the first time only the rows of new tokens are sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from instil.model.adapters.lora import prepare_adapters
from instil.model.adapters.saved import open_adapter
from instil.model.folder.location import ModelLocation
from instil.model.freezing import freeze
from instil.model.loading import lighten_layers
from instil.model.new_tokens import TokenChange, add_rows
from instil.model.parts import underlying
from instil.recipe import Recipe


def make_learnable(model: Any, recipe: Recipe, *, trained_ids: Sequence[int]) -> Any:
    """Put adapters on a model that has its rows, and freeze what the recipe says.

    Args:
        model: transformers' model, or peft's where the recipe's model is an adapter.
        recipe: The recipe.
        trained_ids: Tokens whose rows train even where the rest is frozen.

    Raises:
        ModelError: If targets of adapters, frozen names and model do not fit together.
    """
    model = prepare_adapters(model, recipe.adapter, trained_ids=trained_ids, seed=recipe.training.seed)
    if recipe.training.freeze:
        freeze(model, recipe.training.freeze)
    return model


def learnable_without_content(
    model: Any, recipe: Recipe, location: ModelLocation, *, tokenizer: Any, change: TokenChange, device: torch.device
) -> Any:
    """Make a model on `meta` what it will be when it learns: what is wrong with that shows here, and its memory can be planned.

    Args:
        model: transformers' model on `meta`.
        recipe: The recipe.
        location: The model's place.
        tokenizer: The tokenizer with its new tokens.
        change: What was done to it.
        device: Where the run computes.

    Raises:
        ModelError: As `make_learnable`, and if the embedding cannot be resized or an adapter that goes on does not fit.
    """
    lighten_layers(model, device)
    new_ids = [int(tokenizer.convert_tokens_to_ids(token)) for token in change.added]
    more_rows_may_train = recipe.adapter.kind != "none" and bool(change.control_ids) and not new_ids
    if more_rows_may_train:  # names of their parameters may be among those to freeze
        recipe = recipe.override({"training": {"freeze": []}})
    with torch.device("meta"):
        if location.adapter_folder is not None:
            model = open_adapter(model, location.adapter_folder, trains=True)
        add_rows(underlying(model), len(tokenizer))
        return make_learnable(model, recipe, trained_ids=new_ids).train()
