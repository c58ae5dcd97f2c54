"""From what is known of a run to everything that the loop needs: model, adapters, loss, optimizers.

Between `preflight` and the loop.

With sharded weights, each process reads its rows from the files and holds nothing else (`shards.loading`).

Why: where that is impossible, every process loads the whole model itself and keeps its shard, instead of receiving it
from the first process. If the memory of a machine does not hold that many models, its processes load one after another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from instil.model.adapters.saved import is_adapter_weight
from instil.model.attention.flat import describe_attention
from instil.model.folder.config import dropout_of
from instil.model.gradient_checkpointing import set_gradient_checkpointing
from instil.model.host_memory import SHARED_MEMORY
from instil.model.loading import load_model
from instil.model.loss.token_loss import TokenLoss
from instil.model.new_tokens import RowChange, fit_embeddings
from instil.model.offloaded_activations import OffloadedActivations
from instil.model.parts import beyond_text
from instil.model.probe import Probe, probe
from instil.model.quantization import num_weights
from instil.recipe import OptimizerSettings
from instil.training.compiling import compile_blocks, wants_compiling
from instil.training.memory.estimate import Sizes, loaded_bytes, measure_sizes
from instil.training.memory.fit import USABLE, Fit, find_fit
from instil.training.memory.usage import free_memory
from instil.training.preflight import Preflight, loading_precision
from instil.training.process_settings import return_freed_memory
from instil.training.processes.ranks import Ranks
from instil.training.shards.loading import make_without_weights, read_shards, why_whole
from instil.training.step.learner import Learner
from instil.training.step.optimizer import build_optimizers, left_to_adamw
from instil.training.step.precision import Weights
from instil.training.step.sharding import compute_inside, shard
from instil.training.step.tensor_kinds import TensorKind, tensor_kinds
from instil.training.trainable import make_trainable
from instil.units import counted

MOST_NAMES = 8
"""Tokens that a note names."""


@dataclass(frozen=True, slots=True)
class Assembled:
    """A learner, and the facts about it that the run card shows.

    Attributes:
        learner: Model, weights, optimizers, examples and processes, as a step needs them.
        model: The model inside the learner's loss, with adapters.
        num_trained: Numbers that train.
        num_parameters: Numbers in the model, without its adapters.
        sizes: What memory and disk depend on in the model.
        kernel: The attention kernel, in words.
        fit: How steps are cut, and the memory that needs.
        notes: What the user should know, a line each.
        by_rows: Whether each process has read its shard alone, so that the model is written in parts too.
    """

    learner: Learner
    model: Any
    num_trained: int
    num_parameters: int
    sizes: Sizes
    kernel: str
    fit: Fit
    notes: tuple[str, ...]
    by_rows: bool = False


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A model inside its loss, whole or in shards, and what was measured of it."""

    model: Any
    loss: TokenLoss
    probed: Probe
    sizes: Sizes
    num_trained: int
    num_parameters: int
    notes: tuple[str, ...]


def assemble(preflight: Preflight, ranks: Ranks, *, sharded: bool = False) -> Assembled:
    """Load the model, fit its embeddings and adapters, and build its loss and optimizers.

    Args:
        preflight: What is known of the run.
        ranks: The processes.
        sharded: Whether to lay the weights in shards over the processes.

    Raises:
        InstilError: If anything is wrong with the model.
    """
    recipe, precision = preflight.recipe, preflight.precision
    if sharded and ranks.device.type == "cpu":
        return_freed_memory()
    reason = why_whole(preflight) if sharded else None
    by_rows = sharded and reason is None
    if by_rows:
        loaded = _load_shards(preflight, ranks)
    else:
        device = _loading_device(preflight, ranks.device, sharded=sharded)
        # While the model is loaded, checked and sharded, a process holds it whole. The next one may have to wait for
        # that.
        with ranks.in_turn(sharded and _must_take_turns(preflight, ranks, device)):
            loaded = _load(preflight, ranks, device)
            if sharded:
                shard(loaded.loss, precision, device=ranks.device, offload=recipe.parallel.offload == "all")
    ranks.wait()
    model, one_by_one = loaded.model, loaded.probed.one_by_one
    fit = _fit(preflight, model, loaded.sizes, ranks, sharded=sharded, one_by_one=one_by_one)
    if fit.recompute:
        set_gradient_checkpointing(model, True)
    offloads = recipe.training.offload_activations == "on"
    if wants_compiling(
        recipe.training.compile,
        ranks.device,
        sharded=sharded,
        quantized=recipe.model.quantize != "none",
        offloads=offloads,
        shared=ranks.sequence is not None,
    ):
        compile_blocks(model)
    if offloads:
        OffloadedActivations(model)
    # After sharding, which replaces the parameters; the optimizers move what is in `weights`.
    weights = Weights(model, precision, sharded=sharded)
    kinds = tensor_kinds(model)
    learner = Learner(
        loaded.loss.train(),
        weights,
        _build_optimizers(
            recipe.optimizer,
            weights,
            kinds,
            state_on_host=recipe.parallel.offload == "optimizer" and ranks.device.type not in SHARED_MEMORY,
        ),
        preflight.prepared.train,
        ranks,
        sharded=sharded,
        scaled=precision.scaled,
        one_by_one=one_by_one,
    )
    kernel = describe_attention(device=ranks.device, dtype=precision.compute, config=model.config)
    return Assembled(
        learner,
        model,
        num_trained=loaded.num_trained,
        num_parameters=loaded.num_parameters,
        sizes=loaded.sizes,
        kernel=f"{kernel}; {loaded.probed.words}",
        fit=fit,
        notes=(
            *loaded.notes,
            *([] if reason is None else [f"each process loads the whole model before it keeps its part: {reason}"]),
            *_optimizer_notes(recipe.optimizer, weights, kinds),
        ),
        by_rows=by_rows,
    )


def load_trainable(preflight: Preflight, device: torch.device) -> tuple[Any, RowChange]:
    """Load the model and make it what trains: rows for new tokens, adapters, frozen parts.

    Returns:
        The model, and what was changed in embedding and head.

    Raises:
        InstilError: If anything is wrong with the model.
    """
    recipe, seed = preflight.recipe, preflight.recipe.training.seed
    model = load_model(
        recipe.model,
        precision=loading_precision(preflight.precision, trains_adapter=recipe.adapter.kind != "none"),
        device=device,
        seed=seed,
        location=preflight.location,
    )
    chat = preflight.chat
    rows = fit_embeddings(model, chat.tokenizer, preflight.change, stop_ids=chat.stop_ids, seed=seed)
    model = make_trainable(
        model,
        adapter=recipe.adapter,
        frozen=recipe.training.freeze,
        trained_ids=rows.trained_ids,
        seed=seed,
    )
    return model, rows


def _load(preflight: Preflight, ranks: Ranks, device: torch.device) -> _Loaded:
    """Load the model to a device, put it into its loss, and measure what only the whole model shows."""
    model, rows = load_trainable(preflight, device)
    probed = probe(model, longest=_longest(preflight), processes=preflight.recipe.parallel.sequence)
    # Quantised weights are packed, which hides their shapes. The model without weights shows them.
    quantized = preflight.recipe.model.quantize != "none"
    sizes = preflight.sizes() if quantized else measure_sizes(model, preflight.precision)
    loss = _loss_of(model, preflight, ranks)
    return _Loaded(model, loss, probed, sizes, *_counts(model), notes=_model_notes(preflight, rows, model))


def _load_shards(preflight: Preflight, ranks: Ranks) -> _Loaded:
    """Make the model without weights, lay it in shards, and read this process's rows."""
    model, rows = make_without_weights(preflight, ranks.device)
    counts, notes = _counts(model), _model_notes(preflight, rows, model)
    loss = _loss_of(model, preflight, ranks)
    shard(loss, preflight.precision, device=ranks.device)
    read_shards(model, rows, preflight, ranks)
    longest, sequence, compute = _longest(preflight), preflight.recipe.parallel.sequence, preflight.precision.compute
    probed = compute_inside(loss, lambda: probe(model, longest=longest, processes=sequence, dtype=compute))
    return _Loaded(model, loss, probed, preflight.sizes(), *counts, notes=notes)


def _longest(preflight: Preflight) -> int:
    """Return the number of tokens of the longest example."""
    prepared = preflight.prepared
    return int(max(store.num_tokens.max(initial=0) for store in (prepared.train, prepared.heldout)))


def _loss_of(model: Any, preflight: Preflight, ranks: Ranks) -> TokenLoss:
    """Put a model into its loss."""
    training = preflight.recipe.training
    return TokenLoss(
        model,
        loss=training.loss,
        # Objectives of whole answers take no part of the router's loss.
        router_coefficient=training.router_loss if training.objective == "sft" else 0.0,
        neftune_alpha=training.neftune_alpha,
        few_shapes=ranks.device.type == "cpu" and preflight.precision.compute != torch.float32,
        sequence=ranks.sequence,
    )


def _counts(model: Any) -> tuple[int, int]:
    """Return how many numbers train, and how many the model has without its adapters."""
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    return trained, sum(num_weights(value) for name, value in model.named_parameters() if not is_adapter_weight(name))


def _loading_device(preflight: Preflight, device: torch.device, *, sharded: bool) -> torch.device:
    """Return the device that the whole model is loaded to.

    That is the run's device, or the CPU if only shards fit on it. `shard` moves them to the run's.
    """
    if not sharded or device.type == "cpu":
        return device
    return device if _model_bytes(preflight) < free_memory(device) * USABLE else torch.device("cpu")


def _model_bytes(preflight: Preflight) -> int:
    """Return the bytes of the whole model as it is loaded."""
    is_small = preflight.recipe.adapter.kind != "none" and preflight.precision.compute != torch.float32
    return loaded_bytes(preflight.sizes(), quantize=preflight.recipe.model.quantize, unpacked=2 if is_small else 4)


def _must_take_turns(preflight: Preflight, ranks: Ranks, device: torch.device) -> bool:
    """Return True if the memory of a machine does not hold the whole model for each of its processes."""
    return ranks.any(device.type == "cpu" and _model_bytes(preflight) > free_memory(device) * USABLE)


def _fit(preflight: Preflight, model: Any, sizes: Sizes, ranks: Ranks, *, sharded: bool, one_by_one: bool) -> Fit:
    """Decide how steps are cut. The first process decides for all."""
    local = [value.to_local() if isinstance(value, DTensor) else value for value in model.parameters()]
    loaded = sum(value.numel() * value.element_size() for value in local if value.device.type == ranks.device.type)
    fit = find_fit(
        preflight.workload(sizes),
        device=ranks.device,
        free=free_memory(ranks.device) + loaded,  # the plan counts the weights, which are loaded already
        num_ranks=ranks.size,
        sequence=ranks.num_sharing,
        sharded=sharded,
        one_by_one=one_by_one,
    )
    # A sum in which all but the first add 0 hands its decision to everybody.
    tokens, recompute = ranks.sum_numbers(
        fit.micro_batch_tokens if ranks.is_first else 0, fit.recompute if ranks.is_first else 0
    )
    return replace(fit, micro_batch_tokens=int(tokens), recompute=bool(recompute))


def _build_optimizers(
    settings: OptimizerSettings, weights: Weights, kinds: Mapping[str, TensorKind], *, state_on_host: bool
) -> list[torch.optim.Optimizer]:
    return build_optimizers(
        weights.by_name,
        kinds,
        name=settings.name,
        lr=float(settings.lr or 0),
        weight_decay=settings.weight_decay,
        betas=settings.betas,
        eps=settings.eps,
        momentum=settings.momentum,
        state_on_host=state_on_host,
    )


def _optimizer_notes(settings: OptimizerSettings, weights: Weights, kinds: Mapping[str, TensorKind]) -> list[str]:
    stacked = left_to_adamw(weights.by_name, kinds, name=settings.name)
    if not stacked:
        return []
    return [f"Muon moves matrices only; AdamW moves {stacked[0]} and similar ones ({counted(len(stacked), 'tensor')})"]


def _model_notes(preflight: Preflight, rows: RowChange, model: Any) -> tuple[str, ...]:
    """Return a note for each property of the loaded model that the user may not expect."""
    tokenizer = preflight.chat.tokenizer
    notes = list(rows.notes)
    if rows.new_ids:
        names = ", ".join(tokenizer.convert_ids_to_tokens(list(rows.new_ids)))
        notes.append(f"new tokens: {names} ({rows.rows_before} rows became {rows.rows_after})")
    if rows.missing_ids:
        shown = tokenizer.convert_ids_to_tokens(list(rows.missing_ids[:MOST_NAMES]))
        more = f" and {len(rows.missing_ids) - len(shown)} more" if len(rows.missing_ids) > len(shown) else ""
        notes.append(
            f"tokens of the tokenizer without a row in the model got one, which trains: {', '.join(shown)}{more} "
            f"({rows.rows_before} rows became {rows.rows_after})"
        )
    if rows.untrained_ids:
        names = ", ".join(tokenizer.convert_ids_to_tokens(list(rows.untrained_ids)))
        notes.append(f"tokens whose rows looked untrained were initialised again: {names}")
    tables = {"embedding": model.get_input_embeddings(), "head": model.get_output_embeddings()}
    frozen = [name for name, table in tables.items() if not any(value.requires_grad for value in table.parameters())]
    if rows.trained_ids and frozen:
        notes.append(
            f"training.freeze keeps the new rows of these tokens in the {' and '.join(frozen)} "
            "at their initial values; the model can hardly learn what they mean"
        )
    dropout = dropout_of(model.config)
    if dropout:
        shares = ", ".join(f"{name} {share:g}" for name, share in dropout.items())
        notes.append(
            f"the model's config.json sets dropout ({shares}), which is active in training; "
            "losses repeat only with the same micro-batches and processes"
        )
    unread = beyond_text(model)
    if unread:
        notes.append(f"text does not reach {', '.join(unread)}; they stay unchanged and are saved with the model")
    return tuple(notes)
