"""Settings that are right each by itself and wrong together, or with the data and the model that the recipe names.

Beside `assembly`, which asks here before a weight is loaded. Questionable on purpose: what could not have any effect is refused
where a person would wait for that effect (early stopping without held-out rows), and said in the run card where the run is
what it would be without it (a warm-up that is longer than the run).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

from instil.errors import MissingPackageError, RecipeError
from instil.model.adapters.saved import saved_settings
from instil.model.folder.config import context_length
from instil.model.folder.file_checks import ADAPTER_CONFIG
from instil.model.folder.location import ModelLocation
from instil.model.parts import underlying
from instil.recipe import AdapterSettings, Recipe
from instil.training.compiling import wants_compiling
from instil.training.step.order import Order
from instil.training.step.precision import Precision
from instil.training.step.sharding import why_no_shards

MORE_POSITIONS = 8
"""Rows that a table of positions may have besides the positions themselves (OPT has two)."""


def check_settings(recipe: Recipe, precision: Precision, *, device: torch.device, num_ranks: int) -> None:
    """Refuse what no model and no data would make right.

    Args:
        recipe: The recipe.
        precision: How the run computes.
        device: Where.
        num_ranks: Processes of the run.

    Raises:
        RecipeError: If quantised weights would have to train, or what is asked for is not built for them, or for shards.
    """
    quantized = recipe.model.quantize != "none"
    if quantized and recipe.adapter.kind == "none":
        raise RecipeError(
            f"model.quantize: {recipe.model.quantize}, but adapter.kind is none, and quantised weights cannot train; "
            "set adapter.kind: lora, or model.quantize: none"
        )
    sharded = recipe.parallel.mode == "sharded" and num_ranks > 1
    reason = why_no_shards(precision, optimizer=recipe.optimizer.name, quantize=recipe.model.quantize)
    if sharded and reason is not None:
        raise RecipeError(reason)
    wants_compiling(recipe.training.compile, device, sharded=sharded, quantized=quantized)


def check_packages(recipe: Recipe) -> None:
    """Raise MissingPackageError where a run would find out only at its model that bitsandbytes is not installed."""
    for needs, name in (
        (recipe.model.quantize != "none", f"model.quantize: {recipe.model.quantize}"),
        (recipe.optimizer.name == "adamw_8bit", "optimizer.name: adamw_8bit"),
    ):
        if needs and importlib.util.find_spec("bitsandbytes") is None:
            raise MissingPackageError("bitsandbytes", needed_for=name, extra="qlora")


def with_saved_adapter(recipe: Recipe, location: ModelLocation) -> Recipe:
    """Take over the settings of an adapter that training goes on with.

    Raises:
        RecipeError: If the recipe names others, or no adapter.
    """
    resumed = recipe.adapter.resume_from
    # not asked as options are read: the file may have the kind
    if resumed is not None and recipe.adapter.kind == "none":
        raise RecipeError(
            f"adapter.resume_from: found {resumed!r}; adapter.kind is none, which trains no adapter; set adapter.kind: lora, or leave "
            "this out"
        )
    folder = location.adapter_folder if resumed is None else Path(resumed)
    if folder is None or recipe.adapter.kind == "none":
        return recipe
    if resumed is not None and location.adapter_folder is not None:
        raise RecipeError(
            f"adapter.resume_from: found {resumed!r}, but model.name is an adapter too ({location.name}); expected one adapter to go "
            "on with; name its base in model.name, or leave adapter.resume_from empty"
        )
    if not (folder / ADAPTER_CONFIG).exists():
        raise RecipeError(
            f"adapter.resume_from: {folder} holds no {ADAPTER_CONFIG}; expected an adapter folder, such as the adapter/ of a run; "
            "name one"
        )
    saved = saved_settings(folder)
    targets = saved.pop("targets", None)
    for name, value in (saved | {"targets": targets}).items():
        given = getattr(recipe.adapter, name)
        same = given == "all-linear" or set(given) == set(value or ()) if name == "targets" else given == value
        if name in recipe.adapter.model_fields_set and not same:
            raise RecipeError(
                f"adapter.{name}: found {given!r}, but training goes on with the adapter in {folder}, which has {value!r}; "
                "leave the setting out, or start a new adapter"
            )
    return recipe.override({"adapter": saved})


def check_positions(recipe: Recipe, model: Any) -> list[str]:
    """Refuse examples that are longer than a model's table of positions, and note those that are longer than it was made for.

    Args:
        recipe: The recipe, its longest example decided.
        model: transformers' model, on any device.

    Raises:
        RecipeError: If positions are rows of a table, and there are fewer than tokens.
    """
    inner, longest = underlying(model), recipe.data.max_tokens
    limit = context_length(inner.config)
    if longest is None or limit is None or longest <= limit:
        return []
    if _has_position_table(inner, limit):
        raise RecipeError(
            f"data.max_tokens: {longest:,}, but {recipe.model.name} has a table of {limit:,} positions; set it to {limit} or less, "
            "or leave it out"
        )
    return [
        f"data.max_tokens: {longest:,}, but {recipe.model.name} was made for {limit:,} tokens; what is longer trains positions that it has never seen"
    ]


def _has_position_table(model: Any, limit: int) -> bool:
    """Say whether a model looks positions up: in an embedding (GPT-2), in a buffer (GPT-J's sines), or in biases made for so many (MPT)."""
    embeddings = [part for part in model.modules() if isinstance(part, torch.nn.Embedding)]
    return (
        model.config.model_type == "mpt"
        or any(buffer.ndim == 2 and buffer.shape[0] == limit for buffer in model.buffers())
        or any(
            0 <= table.num_embeddings - limit <= MORE_POSITIONS
            for table in embeddings
            if table is not model.get_input_embeddings()
        )
    )


def check_heldout(recipe: Recipe, num_heldout: int) -> None:
    """Refuse what needs held-out rows where there are none.

    Raises:
        RecipeError: If a setting needs them.
    """
    if num_heldout:
        return
    for needs, name in (
        (recipe.evaluate.patience is not None, "evaluate.patience"),
        (recipe.checkpoint.final == "best", "checkpoint.final: best"),
        (bool(recipe.evaluate.tasks), "evaluate.tasks"),
    ):
        if needs:
            raise RecipeError(
                f"{name}: no row is held out, and nothing else could be measured; set data.heldout, or a larger "
                "data.heldout_share, or leave the setting out"
            )


def notes_of(recipe: Recipe, order: Order) -> list[str]:
    """Name the settings that have no effect, or another one than their number says."""
    notes = []
    if recipe.adapter.kind == "none":
        plain = AdapterSettings()
        unused = [
            name for name in AdapterSettings.model_fields if getattr(recipe.adapter, name) != getattr(plain, name)
        ]
        if unused:
            names = ", ".join(f"adapter.{name}" for name in unused)
            notes.append(f"{names} has no effect with adapter.kind: none, which trains every weight")
    if recipe.optimizer.warmup >= max(1, order.num_steps):
        notes.append(
            f"optimizer.warmup: {recipe.optimizer.warmup:g} steps, but the run has {order.num_steps}; the learning rate rises "
            "to its peak until the end"
        )
    if order.batch_size > order.num_examples:
        notes.append(
            f"training.batch_size: {order.batch_size:,}, but there are {order.num_examples:,} examples; a step takes all of them"
        )
    return notes
