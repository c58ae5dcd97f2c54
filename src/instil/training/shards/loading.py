"""Loads a model of which each process holds its shard from the start, with rows read from the files by their offset.

Between `setup` and `step.sharding`. The model is made without weights, laid in shards, and each process reads its own
rows. No process ever holds the model, nor its embedding.

Why: only models whose files hold the parameters as they are. Where transformers converts weights while it loads, or
where an adapter's first values come from its base, a tensor has no rows to read. Those are loaded whole by each process,
and the run says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from instil.errors import ModelError
from instil.model.adapters.saved import is_adapter_weight
from instil.model.attention.switch import set_attention
from instil.model.folder.config import load_config
from instil.model.folder.file_checks import weight_files
from instil.model.folder.from_config import model_of_config
from instil.model.folder.location import ModelLocation
from instil.model.folder.stored_tensors import FLOATS, StoredTensor, stored_tensors
from instil.model.folder.weight_checks import is_finite, refuse_damaged
from instil.model.library_noise import quiet_transformers
from instil.model.loading import lighten_layers
from instil.model.new_tokens import RowChange, RowReader, fit_embeddings, untrained_rows
from instil.model.parts import beyond_text, take_apart
from instil.model.underlying import underlying
from instil.training.checkpoints.capture import rows_here
from instil.training.preflight import Preflight, loaded_type
from instil.training.processes.ranks import Ranks
from instil.training.recipe_checks import why_whole_by_settings
from instil.training.step.sharding import replace_bare
from instil.training.trainable import make_trainable

ROWS_TRAIN = "rows of tokens train beside the adapter"


def why_whole(preflight: Preflight) -> str | None:
    """Return why each process has to load the whole model before it keeps its shard; None if it reads its rows alone."""
    recipe, location = preflight.recipe, preflight.location
    config = load_config(location, trust_remote_code=recipe.model.trust_remote_code)
    if (words := why_whole_by_settings(recipe, location, config)) is not None:
        return words
    files = weight_files(location.folder)
    if not files or not all(path.exists() for path in files):  # a plan of a model that is not here
        return None
    is_adapter = recipe.adapter.kind != "none"
    reason = _why_no_adapter(preflight.empty_model) if is_adapter else None
    reason = reason or _why_no_rows(underlying(preflight.empty_model), location)
    if reason is None and is_adapter and _has_untrained_rows(preflight):
        return ROWS_TRAIN
    return reason


def _why_no_rows(model: Any, location: ModelLocation) -> str | None:
    """Return why the files of a model do not hold its parameters as they are, or None."""
    if beyond_text(model):
        return "it has parts beyond text"
    if _converts(model):
        return "transformers converts its weights"
    head = take_apart(model).head
    if getattr(head, "bias", None) is not None:
        return "its head has a bias"
    if any(
        getattr(part, name, None)
        for part in model.modules()
        for name in ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict")
    ):
        return "some of its weights stay in fp32"
    stored = stored_tensors(location.folder)
    weights = _base_weights(model)
    for _, alike in weights:
        here = [name for name in alike if name in stored]
        if len(here) != 1:
            return f"its files hold {alike[0]} {'twice' if here else 'under another name'}"
        if stored[here[0]].dtype not in FLOATS or not stored[here[0]].shape:
            return f"its files hold {here[0]} as {stored[here[0]].dtype}"
    known = {name for _, alike in weights for name in alike}
    others = [name for name in model.state_dict() if stored_name(name) not in known and not is_adapter_weight(name)]
    return f"{others[0]} is no parameter" if others else None


def _why_no_adapter(model: Any) -> str | None:
    """Return why an adapter's first values, or its merging, need the base's weights whole, or None."""
    adapted = [name for name, _ in model.named_parameters() if is_adapter_weight(name)]
    if any(not re.search(r"\.lora_[AB]\.", name) for name in adapted):
        return ROWS_TRAIN
    inner = underlying(model)
    if any(hasattr(layer, "lora_A") for layer in (inner.get_input_embeddings(), take_apart(model).head)):
        return "its embedding or head has an adapter"
    return None


def _has_untrained_rows(preflight: Preflight) -> bool:
    """Return whether rows of existing tokens look untrained, and will train beside an adapter. Only weights show it."""
    change, stored = preflight.change, stored_tensors(preflight.location.folder)
    for read, num_rows in _tables(underlying(preflight.empty_model), stored):
        ids = [index for index in change.control_ids if index < num_rows]
        num_known = min(num_rows, len(preflight.chat.tokenizer) - len(change.added))
        if untrained_rows(read, ids, num_known):
            return True
    return False


def _tables(model: Any, stored: Mapping[str, StoredTensor]) -> list[tuple[RowReader, int]]:
    """Return readers of embedding and head on the disk, each with its number of rows."""
    readers = _table_readers(model, stored, torch.float32)
    return [(reader, entry.shape[0]) for reader, entry in readers.values()]


def _converts(model: Any) -> bool:
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
    except ImportError:  # another version of transformers, of which nothing is known
        return True
    return bool(get_model_conversion_mapping(model, add_legacy=False))


def stored_name(name: str) -> str:
    """Return the name that a parameter of a peft model has in the base's files."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


def make_without_weights(preflight: Preflight, device: torch.device) -> tuple[Any, RowChange]:
    """Make the model that trains as `setup.load_trainable` does, with its weights on `meta`.

    Adapters and buffers are real, and equal to those of whole loading. New rows of the embedding are in `RowChange`.
    Only for a run of which `why_whole` returns None.
    """
    recipe, seed, location = preflight.recipe, preflight.recipe.training.seed, preflight.location
    trust = recipe.model.trust_remote_code
    config = load_config(location, trust_remote_code=trust)
    dtype = loaded_type(recipe, preflight.precision)
    with torch.device("meta"):
        model = model_of_config(location, config, trust=trust, dtype=dtype)
    model.config.name_or_path = str(location.folder)
    _read_generation_config(model, location)
    _fill_buffers(model)
    set_attention(model, "training")
    lighten_layers(model, device)
    tables = {
        name: reader for name, (reader, _) in _table_readers(model, stored_tensors(location.folder), dtype).items()
    }
    chat, change = preflight.chat, preflight.change
    if recipe.adapter.kind != "none":
        # `why_whole` has read the whole tables for this already: the row of no control token looks untrained.
        change = replace(change, control_ids=())
    rows = fit_embeddings(model, chat.tokenizer, change, stop_ids=chat.stop_ids, seed=seed, stored=tables)
    bare = _stand_ins(model)
    model = make_trainable(
        model, adapter=recipe.adapter, frozen=recipe.training.freeze, trained_ids=rows.trained_ids, seed=seed
    )
    _back_to_meta(model, bare)
    return model.train(), rows


@torch.no_grad()
def read_shards(model: Any, rows: RowChange, preflight: Preflight, ranks: Ranks) -> None:
    """Read this process's rows of a sharded model from its files, in place.

    Args:
        model: From `make_without_weights`, in shards.
        rows: Likewise; its new rows are put in place.
        preflight: What is known of the run.
        ranks: The processes.

    Raises:
        ModelError: On every process, if a weight is not finite.
    """
    folder = preflight.location.folder
    through = loaded_type(preflight.recipe, preflight.precision)
    damaged = fill_shards(model, stored_tensors(folder), through=through)
    inner = underlying(model)
    tables = {"embedding": inner.get_input_embeddings().weight, "head": take_apart(model).head.weight}
    for name, drawn in rows.drawn.items():
        table = tables[name]
        start, stop = rows_here(table)
        local = table.to_local() if isinstance(table, DTensor) else table.data
        for number, row in drawn.items():
            if start <= number < (local.shape[0] if stop is None else stop):
                local[number - start] = row.to(table.dtype)
    refuse_damaged(folder, [name for names in _all_of(ranks, damaged) for name in names])


@torch.no_grad()
def fill_shards(model: Any, stored: Mapping[str, StoredTensor], *, through: torch.dtype) -> list[str]:
    """Read this process's rows of every weight of a base, in place; return the names of those that are not finite.

    Args:
        model: The sharded model.
        stored: Where its tensors lie. Rows beyond a stored table are left as they are.
        through: Type that the rows are rounded to before the shard's.
    """
    damaged = []
    for weight, alike in _base_weights(model):
        entry = next((stored[name] for name in alike if name in stored), None)
        if entry is None:
            continue
        start, _ = rows_here(weight)
        local = weight.to_local() if isinstance(weight, DTensor) else weight.data
        rows = local[: max(0, min(local.shape[0], entry.shape[0] - start))]
        if not rows.numel():
            continue
        entry.fill(rows, start, through=through)
        if not is_finite(rows):
            damaged.append(alike[0])
    return damaged


def _base_weights(model: Any) -> list[tuple[torch.Tensor, list[str]]]:
    """Return each weight of a base with its names in the files; a tied one has several."""
    weights: dict[int, tuple[torch.Tensor, list[str]]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if not is_adapter_weight(name):
            weights.setdefault(id(parameter), (parameter, []))[1].append(stored_name(name))
    return list(weights.values())


def _all_of(ranks: Ranks, names: list[str]) -> list[list[str]]:
    """Return the lists of all processes, on every process."""
    collected: list[list[str]] = ranks.tell(ranks.collect(names))
    return collected


def _table_readers(
    model: Any, stored: Mapping[str, StoredTensor], dtype: torch.dtype
) -> dict[str, tuple[RowReader, StoredTensor]]:
    """Return readers of embedding and head, in the type that whole loading gives them; a tied head is left out."""
    layers = {"embedding": model.get_input_embeddings(), "head": take_apart(model).head}
    modules = {id(module): name for name, module in model.named_modules()}
    if layers["head"].weight is layers["embedding"].weight:
        names = [f"{modules[id(layer)]}.weight" for layer in layers.values()]
        entries = {"embedding": next(stored[name] for name in names if name in stored)}
    else:
        entries = {name: stored[f"{modules[id(layer)]}.weight"] for name, layer in layers.items()}
    return {name: (_reader(entry, dtype), entry) for name, entry in entries.items()}


def _reader(entry: StoredTensor, dtype: torch.dtype) -> RowReader:
    return lambda first, last: entry.rows(first, last).to(dtype)


def _read_generation_config(model: Any, location: ModelLocation) -> None:
    from transformers import GenerationConfig

    if (location.folder / "generation_config.json").exists():
        with quiet_transformers():
            model.generation_config = GenerationConfig.from_pretrained(str(location.folder))


@torch.no_grad()
def _fill_buffers(model: Any) -> None:
    """Compute the buffers of a model on `meta` as transformers does after it has loaded weights.

    Raises:
        ModelError: If one is left without content, which transformers would leave so too.
    """
    for module in model.modules():
        bare = {name: value for name, value in module._buffers.items() if value is not None and value.is_meta}
        if not bare:
            continue
        for name, value in bare.items():
            room = torch.empty_like(value, device="cpu")
            module._buffers[name] = room.fill_(torch.nan) if room.is_floating_point() else room.zero_()
        model._init_weights(module)
        empty = [
            name for name in bare if module._buffers[name].is_floating_point() and module._buffers[name].isnan().any()
        ]
        if empty:
            raise ModelError(
                f"{type(module).__name__}: transformers does not compute its buffer {empty[0]}. Expected one that it does. "
                "Set parallel.mode: replicated."
            )


def _stand_ins(model: Any) -> dict[int, nn.Parameter]:
    """Replace each parameter on `meta` by one on the CPU with the same shape and a single number, in place.

    Why: peft moves an adapter to the device of its base. On `meta` its first values would be lost.

    Returns:
        The parameters on `meta` by the id of what stands for them.
    """
    return replace_bare(model, lambda parameter: torch.empty(1, dtype=parameter.dtype).expand(parameter.shape))


def _back_to_meta(model: Any, bare: Mapping[int, nn.Parameter]) -> None:
    """Undo `_stand_ins`; what was frozen since then stays so."""
    for part in model.modules():
        for name, parameter in part._parameters.items():
            if id(parameter) in bare:
                part._parameters[name] = bare[id(parameter)].requires_grad_(parameter.requires_grad)
