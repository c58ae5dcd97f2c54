"""Writes the model of a run in shards, tensor by tensor, and compares what was written with what was trained.

The first process writes; the others send it their rows. It holds one tensor at most, where an adapter is merged into
it, and a block of rows otherwise. The written rows are then read back into the shards, for the same comparison as after
every other run.

Why: rows are sent, not written by their owners, because only the first process may write into a folder that is renamed
when it is complete.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from instil.conversation import Example
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.model.adapters.saved import is_adapter_weight
from instil.model.folder.from_config import model_of_config
from instil.model.folder.generation_config import set_stop_ids
from instil.model.folder.location import ModelLocation
from instil.model.folder.piecewise_saving import Place, reserve_weights
from instil.model.folder.saving import opened_model_folder, save_model_folder, save_tokenizer
from instil.model.folder.stored_tensors import stored_tensors
from instil.model.loss.token_loss import TokenLoss
from instil.model.sharded_vocabulary.exchange import rows_of
from instil.model.underlying import underlying
from instil.recipe import ModelSettings
from instil.screen import work
from instil.training.checkpoints.capture import is_shard
from instil.training.processes.ranks import Ranks
from instil.training.records.model_output import WrittenModel
from instil.training.records.run_folder import RunPaths
from instil.training.records.written_model import TrainedLoss, compare_written, mean_loss, trained_loss
from instil.training.shards.loading import fill_shards, stored_name
from instil.training.step.sharding import compute_inside

BLOCK_BYTES = 8 * 2**20
"""Bytes of rows that are sent at once."""


def save_shards(
    model: Any,
    loss: TokenLoss,
    chat: ChatTokenizer,
    paths: RunPaths,
    *,
    settings: ModelSettings,
    location: ModelLocation,
    compute: torch.dtype,
    examples: Sequence[Example],
    ranks: Ranks,
) -> WrittenModel:
    """Write ``model/``, and ``adapter/`` if the run trained one. Every process calls this.

    Args:
        model: The trained model in shards; its weights are replaced by the written ones.
        loss: The loss around it.
        chat: Its tokenizer and template.
        paths: The run folder.
        settings: The recipe's `model`.
        location: Where the base is.
        compute: Type of the arithmetic, in which the model is written.
        examples: What trained and written model are compared on.
        ranks: The processes.

    Raises:
        TrainingError: On every process, if the written model is not what was trained.
    """
    is_adapter = hasattr(model, "peft_config")
    trained = trained_loss(compute_inside(loss, lambda: mean_loss(model, examples)), examples, compute, ranks.device)
    if is_adapter:
        if location.kind == "hub":
            for config in model.peft_config.values():
                config.revision = settings.revision
        _save_adapter(model, chat, paths.adapter, compute=compute, base=location.base_name, ranks=ranks)
    with (
        work("writing the model"),
        opened_model_folder(paths.model) if ranks.is_first else contextlib.nullcontext() as aside,
    ):
        trust = settings.trust_remote_code
        write_model(model, chat, aside, location=location, compute=compute, trust=trust, ranks=ranks)
    ranks.wait()
    return _check(model, loss, paths.model, trained, compute, ranks)


def _save_adapter(
    model: Any, chat: ChatTokenizer, folder: Path, *, compute: torch.dtype, base: str | None, ranks: Ranks
) -> None:
    """Gather the adapter, which is small, and let the first process write it."""
    state = {name: whole(value, compute).cpu() for name, value in model.named_parameters() if is_adapter_weight(name)}
    if ranks.is_first:
        save_model_folder(model, chat, folder, base=base, state=state)


def write_model(
    model: Any,
    chat: ChatTokenizer,
    folder: Path | None,
    *,
    location: ModelLocation,
    compute: torch.dtype,
    trust: bool,
    ranks: Ranks,
) -> None:
    """Write the files of the model; the first process has the folder."""
    weights = {
        stored_name(name): value
        for name, value in model.named_parameters(remove_duplicate=False)
        if not is_adapter_weight(name)
    }
    places: dict[str, Place] = {}
    if folder is not None:
        bare = _bare_copy(underlying(model), location, compute, trust=trust)
        state = {name: torch.empty(value.shape, dtype=compute, device="meta") for name, value in weights.items()}
        set_stop_ids(bare, chat.stop_ids, pad_id=chat.pad_id)
        places = reserve_weights(bare, state, folder)
        save_tokenizer(chat, folder)
    adapted = _adapted(model)
    for name in ranks.tell(list(places)):
        weight, layer, place = weights[name], adapted.get(name), places.get(name)
        if layer is None:
            _send_rows(weight, place, compute, ranks)
        else:
            merged = _merged(layer, weight, compute)
            if place is not None:
                place.write(merged.cpu(), 0)


def _bare_copy(model: Any, location: ModelLocation, compute: torch.dtype, *, trust: bool) -> Any:
    """Return the model without weights and adapters, for transformers to write its settings."""
    with torch.device("meta"):
        bare = model_of_config(location, model.config, trust=trust, dtype=compute)
    bare.generation_config = model.generation_config
    return bare


def _adapted(model: Any) -> dict[str, Any]:
    """Return the layers with an adapter, by the name of their base's weight in the files."""
    layers = {
        name: part for name, part in model.named_modules() if hasattr(part, "lora_A") and hasattr(part, "base_layer")
    }
    return {stored_name(f"{name}.base_layer.weight"): layer for name, layer in layers.items()}


@torch.no_grad()
def _merged(layer: Any, weight: torch.Tensor, compute: torch.dtype) -> torch.Tensor:
    """Return a layer's weight with its adapter merged into it, by peft's own arithmetic; every process calls this."""
    (adapter,) = layer.active_adapters
    gathered = SimpleNamespace(
        lora_A={adapter: SimpleNamespace(weight=whole(layer.lora_A[adapter].weight, compute))},
        lora_B={adapter: SimpleNamespace(weight=whole(layer.lora_B[adapter].weight, compute))},
        fan_in_fan_out=getattr(layer, "fan_in_fan_out", False),
        scaling=layer.scaling,
    )
    base = whole(weight, compute).clone()
    base += type(layer).get_delta_weight(gathered, adapter)
    return base


@torch.no_grad()
def whole(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return all rows of a tensor in a type; every process calls this."""
    full = weight.full_tensor() if isinstance(weight, DTensor) else weight
    return full.detach().to(dtype)


@torch.no_grad()
def _send_rows(weight: torch.Tensor, place: Place | None, dtype: torch.dtype, ranks: Ranks) -> None:
    """Write a tensor on the first process, block by block, with the rows that the others send. Every process calls this."""
    if not is_shard(weight):
        if place is not None:
            place.write(whole(weight, dtype).cpu(), 0)
        return
    assert isinstance(weight, DTensor)
    local = weight.to_local()
    at_once = max(1, BLOCK_BYTES // max(1, local[0].nbytes if local.shape[0] else 1))
    for rank in range(ranks.size):
        begin, end = rows_of(rank, weight.shape[0])
        for start in range(begin, end, at_once):
            stop = min(start + at_once, end)
            if rank == ranks.rank:
                rows = local[start - begin : stop - begin].to(dtype)
                if not ranks.is_first:
                    dist.send(rows.contiguous(), dst=0)
            elif ranks.is_first:
                rows = torch.empty(stop - start, *weight.shape[1:], dtype=dtype, device=local.device)
                dist.recv(rows, src=rank)
            if place is not None:
                place.write(rows.cpu(), start)


@work("reading the written model to compare it")
def _check(
    model: Any, loss: TokenLoss, folder: Path, trained: TrainedLoss, compute: torch.dtype, ranks: Ranks
) -> WrittenModel:
    """Read the written weights into the shards and compare the loss, without the adapter that is merged into them."""
    fill_shards(model, stored_tensors(folder), through=compute)
    with model.disable_adapter() if hasattr(model, "peft_config") else contextlib.nullcontext():
        written = compute_inside(loss, lambda: mean_loss(model, trained.examples))
    # One comparison for all, so that all end alike.
    written = ranks.tell(written)
    words = compare_written(folder, trained, written, removes=ranks.is_first)
    return WrittenModel(trained.loss, written, words)
