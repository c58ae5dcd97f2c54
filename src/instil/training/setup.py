"""From what is known of a run to everything that the loop needs: model, adapters, loss, optimizers.

Between `study` and the loop. Questionable on purpose: every process loads the model itself, whole, and keeps its shard of it, rather
than being sent that by the first one; where a machine does not hold so many models, its processes take turns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from instil.model.attention.flat import describe_attention
from instil.model.folder.config import dropout_of
from instil.model.gradient_checkpointing import set_gradient_checkpointing
from instil.model.loading import load_model
from instil.model.loss.token_loss import TokenLoss
from instil.model.new_tokens import RowChange, fit_embeddings
from instil.model.parts import beyond_text
from instil.model.probe import probe
from instil.training.compiling import compile_blocks, wants_compiling
from instil.training.memory.estimate import Sizes, measure_sizes
from instil.training.memory.fit import USABLE, Fit, find_fit
from instil.training.memory.usage import free_memory
from instil.training.preflight import Studied, loading_precision
from instil.training.processes.ranks import Ranks
from instil.training.step.optimizer import build_optimizers, left_to_adamw, tensor_kinds
from instil.training.step.precision import Weights
from instil.training.step.sharding import shard
from instil.training.step.take_step import Learner
from instil.training.trainable import make_learnable


@dataclass(frozen=True, slots=True)
class Assembled:
    """A learner, and the facts about it that a person is told.

    Attributes:
        learner: What learns.
        model: The model inside its loss, with adapters.
        rows: What was done to embedding and head.
        num_trained: Numbers that are trained.
        num_parameters: Numbers in the model.
        kernel: Name of the attention kernel.
        fit: How steps are cut, and what that needs.
        notes: What a person should know, a line each.
    """

    learner: Learner
    model: Any
    rows: RowChange
    num_trained: int
    num_parameters: int
    kernel: str
    fit: Fit
    notes: tuple[str, ...]


def load_learnable(studied: Studied, device: torch.device) -> tuple[Any, RowChange]:
    """Load the model and make it what learns: rows for new tokens, adapters, frozen parts.

    Raises:
        InstilError: Whatever is wrong with the model.
    """
    recipe, seed = studied.recipe, studied.recipe.training.seed
    model = load_model(
        recipe.model,
        precision=loading_precision(recipe, studied.precision),
        device=device,
        seed=seed,
        location=studied.location,
    )
    rows = fit_embeddings(model, studied.chat.tokenizer, studied.change, stop_ids=studied.chat.stop_ids, seed=seed)
    return make_learnable(model, recipe, trained_ids=rows.trained_ids), rows


def _where_to_load(studied: Studied, device: torch.device, *, sharded: bool) -> torch.device:
    """Give the device that the whole model is loaded to: the run's, or the CPU where only shards fit; `shard` moves them over."""
    if not sharded or device.type == "cpu":
        return device
    return device if _whole(studied) < free_memory(device) * USABLE else torch.device("cpu")


def _whole(studied: Studied) -> int:
    """Count the bytes of the whole model as it is loaded."""
    small = studied.recipe.adapter.kind != "none" and studied.precision.compute != torch.float32
    return studied.sizes().parameters * (2 if small else 4)


def _takes_turns(studied: Studied, ranks: Ranks, where: torch.device) -> bool:
    """Say whether the processes of a machine load and shard one after another, because it does not hold the whole model for each."""
    return ranks.any(where.type == "cpu" and _whole(studied) > free_memory(where) * USABLE)


def assemble(studied: Studied, ranks: Ranks, *, sharded: bool = False) -> Assembled:
    """Load the model, fit its embeddings and adapters, and build its loss and optimizers.

    Args:
        studied: What is known of the run.
        ranks: The processes.
        sharded: Lay the weights in shards over the processes.

    Raises:
        InstilError: Whatever is wrong with the model.
    """
    recipe, precision = studied.recipe, studied.precision
    where = _where_to_load(studied, ranks.device, sharded=sharded)
    with ranks.in_turn(sharded and _takes_turns(studied, ranks, where)):
        model, rows = load_learnable(studied, where)
        longest = max(store.num_tokens.max(initial=0) for store in (studied.prepared.train, studied.prepared.heldout))
        probed = probe(model, longest=int(longest))
        packed = recipe.model.quantize != "none"  # packed weights hide their shapes
        sizes = studied.sizes() if packed else measure_sizes(model, precision)
        num_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        num_parameters = sum(parameter.numel() for parameter in model.parameters())
        notes = _model_notes(studied, rows, model)
        loss = TokenLoss(
            model,
            loss=recipe.training.loss,
            router_coefficient=recipe.training.router_loss,
            neftune_alpha=recipe.training.neftune_alpha,
            few_shapes=ranks.device.type == "cpu" and precision.compute != torch.float32,
        )
        if sharded:
            shard(loss, precision)
    ranks.wait()
    fit = _fit(studied, model, sizes, ranks, sharded=sharded, one_by_one=probed.one_by_one)
    if fit.recompute:
        set_gradient_checkpointing(model, True)
    if wants_compiling(recipe.training.compile, ranks.device, sharded=sharded, quantized=packed):
        compile_blocks(model)
    weights = Weights(model, precision, sharded=sharded)
    kinds = tensor_kinds(model)
    optimizers = build_optimizers(
        weights.by_name,
        kinds,
        name=recipe.optimizer.name,
        lr=float(recipe.optimizer.lr or 0),
        weight_decay=recipe.optimizer.weight_decay,
        betas=recipe.optimizer.betas,
        eps=recipe.optimizer.eps,
        momentum=recipe.optimizer.momentum,
    )
    stacked = left_to_adamw(weights.by_name, kinds, name=recipe.optimizer.name)
    if stacked:
        notes = (*notes, f"Muon moves matrices alone; AdamW moves {stacked[0]} and the like ({len(stacked)} tensors)")
    loss.train()
    learner = Learner(
        loss,
        weights,
        optimizers,
        studied.prepared.train,
        ranks,
        sharded=sharded,
        scaled=precision.scaled,
        one_by_one=probed.one_by_one,
    )
    kernel = describe_attention(device=ranks.device, dtype=precision.compute, config=model.config) + f"; {probed.words}"
    return Assembled(learner, model, rows, num_trained, num_parameters, kernel, fit, notes)


def _fit(studied: Studied, model: Any, sizes: Sizes, ranks: Ranks, *, sharded: bool, one_by_one: bool) -> Fit:
    """Decide how steps are cut; the first process decides for all."""
    here = [value.to_local() if isinstance(value, DTensor) else value for value in model.parameters()]
    loaded = sum(value.numel() * value.element_size() for value in here)
    fit = find_fit(
        studied.recipe,
        sizes,
        studied.precision,
        store=studied.prepared.train,
        order=studied.order,
        device=ranks.device,
        free=free_memory(ranks.device) + loaded,
        num_ranks=ranks.size,
        sharded=sharded,
        one_by_one=one_by_one,
    )
    tokens, recompute = ranks.sum_numbers(
        fit.micro_batch_tokens if ranks.is_first else 0, fit.recompute if ranks.is_first else 0
    )
    return replace(fit, micro_batch_tokens=int(tokens), recompute=bool(recompute))


def _model_notes(studied: Studied, rows: RowChange, model: Any) -> tuple[str, ...]:
    tokenizer = studied.chat.tokenizer
    notes = []
    if rows.new_ids:
        names = ", ".join(tokenizer.convert_ids_to_tokens(list(rows.new_ids)))
        notes.append(f"new tokens: {names} ({rows.rows_before} rows became {rows.rows_after})")
    if rows.untrained_ids:
        names = ", ".join(tokenizer.convert_ids_to_tokens(list(rows.untrained_ids)))
        notes.append(f"tokens whose rows looked untrained were initialised again: {names}")
    tables = {"embedding": model.get_input_embeddings(), "head": model.get_output_embeddings()}
    frozen = [name for name, table in tables.items() if not any(value.requires_grad for value in table.parameters())]
    if rows.trained_ids and frozen:
        notes.append(
            f"training.freeze keeps these tokens' new rows of the {' and '.join(frozen)} as they were drawn; "
            "the model can hardly learn what they mean"
        )
    dropout = dropout_of(model.config)
    if dropout:
        shares = ", ".join(f"{name} {share:g}" for name, share in dropout.items())
        notes.append(
            f"its own config.json sets dropout ({shares}), which is on in training: losses repeat for the same cut and processes"
        )
    unread = beyond_text(model)
    if unread:
        notes.append(f"text does not reach {', '.join(unread)}: they stay as they were, and are saved with the model")
    return tuple(notes)
