"""Settings that are valid one by one and wrong together, or wrong with the data and the model that the recipe names.

`preflight` calls these checks, each as early as its facts are known.

Why: a setting without effect is an error where the user would wait for the effect (early stopping without held-out
rows). It is a note on the run card where the run is what it would be without it (a warm-up that is longer than the
run).
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import torch

from instil.data.sources.rows import is_hub_id
from instil.errors import MissingPackageError, RecipeError
from instil.evaluation.during_training import check_tasks
from instil.files import home_path
from instil.model.adapters.saved import saved_settings
from instil.model.attention.sequence import why_too_many
from instil.model.folder.config import context_length
from instil.model.folder.file_checks import ADAPTER_CONFIG
from instil.model.folder.location import ModelLocation, is_on_hub, locate
from instil.model.host_memory import SHARED_MEMORY
from instil.model.loading import choose_device
from instil.model.quantization import stored_quantization
from instil.model.underlying import underlying
from instil.preparation.cache_key import cache_folder
from instil.preparation.chunks import input_of
from instil.recipe import AdapterSettings, Recipe
from instil.training.compiling import wants_compiling
from instil.training.preference.checks import check_preference
from instil.training.records.trackers import check_trackers
from instil.training.step.order import Order
from instil.training.step.precision import Precision, choose_precision
from instil.training.step.sharding import why_no_shards

DEQUANTISED = ("mxfp4",)
"""Methods whose weights transformers unpacks when it loads them for training (gpt-oss)."""
EXTRA_POSITIONS = 8
"""Rows that a table of positions may have besides the positions themselves (OPT has two)."""


def check_early(recipe: Recipe) -> None:
    """Check what needs neither the network nor a row: settings, and whether model and data are on the disk.

    Raises:
        InstilError: As `run_preflight`, for what is wrong there.
    """
    device = choose_device(recipe.device)
    precision = choose_precision(recipe.training.precision, device)
    num_ranks = max(recipe.parallel.processes, int(os.environ.get("WORLD_SIZE", "1")))
    check_settings(recipe, precision, device=device, num_ranks=num_ranks)
    check_preference(recipe)
    check_tasks(recipe.evaluate.tasks)
    check_packages(quantize=recipe.model.quantize, optimizer=recipe.optimizer.name)
    check_trackers(recipe.tracking.to)
    if not is_on_hub(recipe.model.name):
        locate(recipe.model.name, recipe.model.revision)
    for source in (*recipe.data.sources, *recipe.data.heldout):
        if not (source.path == "-" or is_hub_id(source.path)):
            input_of(source, spool=cache_folder(recipe))


def check_settings(recipe: Recipe, precision: Precision, *, device: torch.device, num_ranks: int) -> None:
    """Refuse combinations that are wrong with any model and any data.

    Args:
        recipe: The recipe.
        precision: How the run computes.
        device: Where the run computes.
        num_ranks: Number of processes.

    Raises:
        RecipeError: If quantised weights would have to train, a setting is not supported with them or with shards, or
            unsharded weights would be offloaded.
    """
    quantized = recipe.model.quantize != "none"
    if quantized and recipe.adapter.kind == "none":
        raise RecipeError(
            f"model.quantize: {recipe.model.quantize}, but adapter.kind is none, and quantised weights cannot train. "
            "Set adapter.kind: lora, or model.quantize: none."
        )
    sharded = recipe.parallel.mode == "sharded" and num_ranks > 1
    reason = why_no_shards_by_settings(recipe, precision)
    if sharded and reason is not None:
        raise RecipeError(reason)
    if recipe.parallel.offload == "all" and not sharded:
        raise RecipeError(
            f"parallel.offload: all, but parallel.mode is {recipe.parallel.mode} and parallel.processes {num_ranks}. "
            "Expected weights in shards. Set parallel.mode: sharded with several processes, or parallel.offload: optimizer."
        )
    wants_compiling(
        recipe.training.compile,
        device,
        sharded=sharded,
        quantized=quantized,
        offloads=recipe.training.offload_activations == "on",
        shared=recipe.parallel.sequence > 1,
    )


def check_packages(*, quantize: str, optimizer: str) -> None:
    """Raise early if bitsandbytes is needed and missing; the run would otherwise notice only at its model.

    Args:
        quantize: The recipe's `model.quantize`.
        optimizer: The recipe's `optimizer.name`.

    Raises:
        MissingPackageError: If it is not installed.
    """
    for needed, setting in (
        (quantize != "none", f"model.quantize: {quantize}"),
        (optimizer == "adamw_8bit", "optimizer.name: adamw_8bit"),
    ):
        if needed and importlib.util.find_spec("bitsandbytes") is None:
            raise MissingPackageError("bitsandbytes", needed_for=setting, extra="qlora")


def check_stored_quantization(recipe: Recipe, config: Any, *, name: str) -> list[str]:
    """Check a base whose weights are stored quantised, and return notes about it.

    Args:
        recipe: The recipe.
        config: transformers' config of the base.
        name: Name of the model.

    Raises:
        RecipeError: If such weights cannot train as the recipe says.
    """
    stored, quantize = stored_quantization(config), recipe.model.quantize
    if stored is None or stored in DEQUANTISED or recipe.model.initialise == "random":
        return []
    if stored not in ("4bit", "8bit"):
        raise RecipeError(
            f"model.name: the weights of {name} are stored quantised ({stored}). Expected 16-bit or 32-bit weights, "
            "or bitsandbytes'. Name the model that it was quantised from."
        )
    if quantize != stored:
        raise RecipeError(
            f"model.quantize: found {quantize}, but the weights of {name} are stored as {stored}. "
            f"Set model.quantize: {stored} with adapter.kind: lora, or name the 16-bit model that it was quantised from."
        )
    return [
        f"the base is stored as {stored}: for model/ its weights are unpacked to 16 bits, and the adapter is merged "
        "into them"
    ]


def saved_adapter(adapter: AdapterSettings, location: ModelLocation) -> dict[str, Any]:
    """Read the settings of the saved adapter that training continues; they replace the recipe's.

    Args:
        adapter: The recipe's `adapter`.
        location: Where the model is; it may be an adapter itself.

    Returns:
        The settings by name; empty if the run starts a new adapter or none.

    Raises:
        RecipeError: If the recipe sets other values, or trains no adapter, or there is no saved adapter.
    """
    resumed = adapter.resume_from
    # Not a validator of the recipe: the path may be an option, and the kind be in the file, which are merged first.
    if resumed is not None and adapter.kind == "none":
        raise RecipeError(
            f"adapter.resume_from: found {resumed!r}, but adapter.kind is none, which trains no adapter. "
            "Set adapter.kind: lora, or leave this out."
        )
    folder = location.adapter_folder if resumed is None else home_path(resumed)
    if folder is None or adapter.kind == "none":
        return {}
    if resumed is not None and location.adapter_folder is not None:
        raise RecipeError(
            f"adapter.resume_from: found {resumed!r}, but model.name is an adapter too ({location.name}). "
            "Expected one adapter to continue. Name its base in model.name, or leave adapter.resume_from empty."
        )
    if not (folder / ADAPTER_CONFIG).exists():
        raise RecipeError(
            f"adapter.resume_from: {folder} holds no {ADAPTER_CONFIG}. "
            "Expected an adapter folder, such as the adapter/ of a run. Name one."
        )
    saved = saved_settings(folder)
    # Targets are compared and not taken over: the saved adapter names its layers itself.
    targets = saved.pop("targets", None)
    for name, value in (saved | {"targets": targets}).items():
        ours = getattr(adapter, name)
        same = ours == "all-linear" or set(ours) == set(value or ()) if name == "targets" else ours == value
        if name in adapter.model_fields_set and not same:
            raise RecipeError(
                f"adapter.{name}: found {ours!r}, but training continues the adapter in {folder}, which has {value!r}. "
                "Leave the setting out, or start a new adapter."
            )
    return saved


def check_heads(model: Any, *, sequence: int) -> None:
    """Refuse a model with fewer attention heads than processes that share the tokens of a micro-batch.

    Args:
        model: transformers' model, on any device.
        sequence: The recipe's `parallel.sequence`.

    Raises:
        RecipeError: With both numbers.
    """
    inner = underlying(model)
    heads = getattr(inner.config.get_text_config(decoder=True), "num_attention_heads", None)
    reason = why_too_many(heads, sequence) if isinstance(heads, int) else None
    if reason is not None:
        raise RecipeError(
            f"parallel.sequence: {sequence}, but {type(inner).__name__} cannot share the tokens of an example: {reason}. "
            f"Set parallel.sequence to {heads} or less."
        )


def check_positions(max_tokens: int | None, model: Any, *, name: str) -> list[str]:
    """Refuse examples longer than a model's table of positions.

    Args:
        max_tokens: Length of the longest example, as resolved; None for no limit.
        model: transformers' model, on any device.
        name: The recipe's name of the model, for messages.

    Returns:
        A note if examples may be longer than the model was made for, and its positions are computed.

    Raises:
        RecipeError: If the model looks its positions up in a table that is too short.
    """
    inner = underlying(model)
    limit = context_length(inner.config)
    if max_tokens is None or limit is None or max_tokens <= limit:
        return []
    if _has_position_table(inner, limit):
        raise RecipeError(
            f"data.max_tokens: {max_tokens:,}, but {name} has a table of {limit:,} positions. "
            f"Set it to {limit} or less, or leave it out."
        )
    return [
        f"data.max_tokens: {max_tokens:,}, but {name} was made for {limit:,} tokens; "
        "longer examples train positions that it has never seen"
    ]


def _has_position_table(model: Any, limit: int) -> bool:
    """Return True if a model looks its positions up.

    It may do so in an embedding (GPT-2), in a buffer (GPT-J's sines), or in biases of fixed size (MPT).
    """
    embeddings = [part for part in model.modules() if isinstance(part, torch.nn.Embedding)]
    return (
        model.config.model_type == "mpt"
        or any(buffer.ndim == 2 and buffer.shape[0] == limit for buffer in model.buffers())
        or any(
            0 <= table.num_embeddings - limit <= EXTRA_POSITIONS
            for table in embeddings
            if table is not model.get_input_embeddings()
        )
    )


def check_heldout(recipe: Recipe, num_heldout: int) -> None:
    """Refuse settings that need held-out rows if there are none.

    Raises:
        RecipeError: With the first of these settings.
    """
    if num_heldout:
        return
    for needed, setting in (
        (recipe.evaluate.patience is not None, "evaluate.patience"),
        (recipe.checkpoint.final == "best", "checkpoint.final: best"),
        (bool(recipe.evaluate.tasks), "evaluate.tasks"),
    ):
        if needed:
            raise RecipeError(
                f"{setting}: no row is held out, so nothing can be measured. Expected held-out rows. "
                "Set data.heldout, or a larger data.heldout_share, or leave the setting out."
            )


def notes_of(recipe: Recipe, order: Order) -> list[str]:
    """Return a note for each setting that has no effect, or a smaller one than its number says."""
    notes = []
    if recipe.adapter.kind == "none":
        defaults = AdapterSettings()
        unused = [
            name for name in AdapterSettings.model_fields if getattr(recipe.adapter, name) != getattr(defaults, name)
        ]
        if unused:
            names = ", ".join(f"adapter.{name}" for name in unused)
            notes.append(f"{names} has no effect with adapter.kind: none, which trains every weight")
    device = choose_device(recipe.device)
    for offloads, setting in (
        (recipe.parallel.offload != "none", f"parallel.offload: {recipe.parallel.offload}"),
        (recipe.training.offload_activations == "on", "training.offload_activations: on"),
    ):
        if not offloads or device.type not in SHARED_MEMORY:
            continue
        notes.append(
            f"{setting} frees no memory on a device of type {device.type}, which has no memory apart from the machine's"
        )
    if recipe.optimizer.warmup >= max(1, order.num_steps):
        notes.append(
            f"optimizer.warmup: {recipe.optimizer.warmup:g} steps, but the run has {order.num_steps}; "
            "the learning rate rises until the end of the run"
        )
    return notes


def why_no_shards_by_settings(recipe: Recipe, precision: Precision) -> str | None:
    """Return which of a run's settings is not supported with shards and what to set instead, or None if all are."""
    return why_no_shards(
        precision, optimizer=recipe.optimizer.name, quantize=recipe.model.quantize, dora=recipe.adapter.dora
    )


def why_whole_by_settings(recipe: Recipe, location: ModelLocation, config: Any) -> str | None:
    """Return why a run's settings need the whole model in each process before it keeps its shard; None if none does."""
    for is_so, words in (
        (recipe.model.initialise == "random", "its weights are drawn"),
        (location.adapter_folder or recipe.adapter.resume_from, "it begins with an adapter"),
        (recipe.model.quantize != "none", "its weights are quantised"),
        (recipe.parallel.offload == "all", "its shards are kept off the device"),
        (getattr(config, "quantization_config", None) is not None, "its weights are stored quantised"),
        (recipe.adapter.kind != "none" and recipe.adapter.dora, "DoRA's magnitudes are computed from its weights"),
        (getattr(config, "auto_map", None), "its own code may change weights"),
    ):
        if is_so:
            return words
    return None
