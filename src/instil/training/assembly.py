"""From a recipe to everything that the loop needs: device, chat, data, model, adapters, optimizers.

Between the recipe and the loop, in the order in which a mistake is found soonest: names, model files and templates before data, data
before weights. Questionable on purpose: nothing is written here, so bad input leaves no run folder behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from instil.data.preparation import Prepared, prepare
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import TemplateError
from instil.evaluation.during_training import check_tasks
from instil.model import attention
from instil.model.adapters import freeze, open_adapter, prepare_adapters
from instil.model.config import load_config, model_of_config
from instil.model.loading import check_loadable, load_model, weight_type
from instil.model.location import ModelLocation, check_tokenizer, locate
from instil.model.loss import TokenLoss
from instil.model.new_tokens import RowChange, TokenChange, fit_embeddings
from instil.model.probe import probe
from instil.model.recompute import set_gradient_checkpointing
from instil.model.weight_shapes import check_shapes
from instil.recipe import Recipe
from instil.training.agreement import check_heldout, notes_of, with_saved_adapter
from instil.training.chat_setup import set_up_chat, with_date, with_max_tokens
from instil.training.compiling import compile_blocks, wants_compiling
from instil.training.memory import Sizes, measure_sizes
from instil.training.optimizer import DEFAULT_LR, build_optimizers, tensor_kinds
from instil.training.order import Order, plan_order
from instil.training.parallel import shard
from instil.training.planning import USABLE, Fit, find_fit, free_memory, sizes_of_recipe
from instil.training.precision import Precision, Weights, choose_precision
from instil.training.ranks import Ranks
from instil.training.step import Learner
from instil.training.trackers import check_trackers


@dataclass(frozen=True, slots=True)
class Studied:
    """What is known before any weight is loaded.

    Attributes:
        recipe: The recipe with every `auto` and empty setting decided that does not need the model.
        location: The model's place.
        chat: Tokenizer and template.
        template: Which template it is, in words.
        change: What was done to the tokenizer.
        prepared: The data.
        order: Who is in which step.
        precision: How the run computes.
        notes: What a person should know, a line each.
    """

    recipe: Recipe
    location: ModelLocation
    chat: ChatTokenizer
    template: str
    change: TokenChange
    prepared: Prepared
    order: Order
    precision: Precision
    notes: tuple[str, ...]

    def sizes(self) -> Sizes:
        """Find out what the run's memory depends on, without loading a weight."""
        return sizes_of_recipe(self.recipe, self.location, self.precision, trained_ids=range(len(self.change.added)))


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


def study(recipe: Recipe, ranks: Ranks, *, say: Callable[[str], None], loads: bool = True) -> Studied:
    """Load the tokenizer, prove the template, prepare the data, lay out the steps.

    Args:
        recipe: The recipe as it was given.
        ranks: The processes; they share the preparation of the data.
        say: Prints a line for the person.
        loads: Whether the weights will be loaded: they must then be there and whole, and there must be room for them.

    Raises:
        InstilError: Whatever is wrong with names, model files, template, data or settings, before a weight is loaded; what is wrong
            with the model, before the data is prepared.
    """
    precision = choose_precision(recipe.training.precision, ranks.device)
    check_tasks(recipe.evaluate.tasks)
    check_trackers(recipe.tracking.to)
    location = locate(recipe.model.name, recipe.model.revision, trust_remote_code=recipe.model.trust_remote_code)
    check_tokenizer(location.tokenizer_folder)
    recipe = with_saved_adapter(with_max_tokens(recipe, location), location)
    setup = set_up_chat(recipe, location)
    recipe = with_date(recipe, setup.chat)
    prove_template(setup.chat)
    _check_model(recipe, location, precision, ranks.device, loads=loads)
    prepared = prepare(recipe, setup.chat, team=ranks)
    for line in prepared.lines():
        say(line)
    check_heldout(recipe, len(prepared.heldout))
    order = plan_order(
        len(prepared.train),
        batch_size=recipe.training.batch_size,
        epochs=recipe.training.epochs,
        max_steps=recipe.training.max_steps,
        seed=recipe.training.seed,
        shuffle=recipe.training.shuffle,
    )
    resolved = recipe.override(
        {
            "training": {"precision": precision.name},
            "optimizer": {"lr": recipe.optimizer.lr or DEFAULT_LR[recipe.adapter.kind]},
        }
    )
    return Studied(
        resolved,
        location,
        setup.chat,
        setup.template,
        setup.change,
        prepared,
        order,
        precision,
        (*setup.notes, *notes_of(recipe, order)),
    )


def _check_model(
    recipe: Recipe, location: ModelLocation, precision: Precision, device: torch.device, *, loads: bool
) -> None:
    """Find out what is wrong with a model while nothing is prepared yet."""
    trust, kernels = recipe.model.trust_remote_code, attention.register()
    config = load_config(location, trust_remote_code=trust)
    if loads and recipe.model.initialise == "pretrained":
        dtype = weight_type(_loading_precision(recipe, precision), "training")
        check_loadable(recipe.model, location, dtype=dtype, device=device)
        model = check_shapes(location, config, kernels=kernels, trust=trust)
    else:
        with torch.device("meta"):
            model = model_of_config(location, config, kernels=kernels, trust=trust)
    adapter = location.adapter_folder or recipe.adapter.resume_from
    if adapter is not None:
        open_adapter(model, Path(adapter), trains=True)


def prove_template(chat: ChatTokenizer) -> None:
    """Refuse a template that would not train what is served.

    Raises:
        TemplateError: With what the proof found.
    """
    proof = chat.prove()
    if not proof.passed:
        failures = [finding for finding in proof.findings if finding.severity == "failure"]
        first, *others = failures or proof.findings
        more = f" (and {len(others)} more)" if others else ""
        raise TemplateError(
            f"{chat.template.name}: the template does not pass its proof: {first}{more}; "
            "see instil template prove, and set model.template or the data setting that is named there"
        )


def load_learnable(studied: Studied, device: torch.device) -> tuple[Any, RowChange]:
    """Load the model and make it what learns: rows for new tokens, adapters, frozen parts.

    Raises:
        InstilError: Whatever is wrong with the model.
    """
    recipe, seed = studied.recipe, studied.recipe.training.seed
    model = load_model(
        recipe.model,
        precision=_loading_precision(recipe, studied.precision),
        device=device,
        seed=seed,
        location=studied.location,
    )
    rows = fit_embeddings(model, studied.chat.tokenizer, studied.change, stop_ids=studied.chat.stop_ids, seed=seed)
    model = prepare_adapters(model, recipe.adapter, trained_ids=rows.trained_ids, seed=seed)
    if recipe.training.freeze:
        freeze(model, recipe.training.freeze)
    return model, rows


def _where_to_load(studied: Studied, device: torch.device, *, sharded: bool) -> torch.device:
    """Give the device that the whole model is loaded to: the run's, or the CPU where only shards fit; `shard` moves them over."""
    if not sharded or device.type == "cpu":
        return device
    small = studied.recipe.adapter.kind != "none" and studied.precision.compute != torch.float32
    bytes_each = 2 if small else 4
    return device if studied.sizes().parameters * bytes_each < free_memory(device) * USABLE else torch.device("cpu")


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
    model, rows = load_learnable(studied, _where_to_load(studied, ranks.device, sharded=sharded))
    longest = max(store.num_tokens.max(initial=0) for store in (studied.prepared.train, studied.prepared.heldout))
    probed = probe(model, longest=int(longest))
    fit = _fit(studied, model, ranks, sharded=sharded, one_by_one=probed.one_by_one)
    if fit.recompute:
        set_gradient_checkpointing(model, True)
    loss = TokenLoss(
        model,
        loss=recipe.training.loss,
        router_coefficient=recipe.training.router_loss,
        neftune_alpha=recipe.training.neftune_alpha,
        few_shapes=ranks.device.type == "cpu" and precision.compute != torch.float32,
    )
    quantized = recipe.model.quantize != "none"
    if wants_compiling(recipe.training.compile, ranks.device, sharded=sharded, quantized=quantized):
        compile_blocks(model)
    num_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    if sharded:
        shard(loss, precision)
    weights = Weights(model, precision, sharded=sharded)
    optimizers = build_optimizers(
        weights.by_name,
        tensor_kinds(model),
        name=recipe.optimizer.name,
        lr=float(recipe.optimizer.lr or 0),
        weight_decay=recipe.optimizer.weight_decay,
        betas=recipe.optimizer.betas,
        eps=recipe.optimizer.eps,
        momentum=recipe.optimizer.momentum,
    )
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
    kernel = attention.describe(device=ranks.device, dtype=precision.compute, config=model.config) + f"; {probed.words}"
    return Assembled(learner, model, rows, num_trained, num_parameters, kernel, fit, _row_notes(studied, rows, model))


def _fit(studied: Studied, model: Any, ranks: Ranks, *, sharded: bool, one_by_one: bool) -> Fit:
    """Decide how steps are cut; the first process decides for all."""
    packed = studied.recipe.model.quantize != "none"  # packed weights hide their shapes
    sizes = studied.sizes() if packed else measure_sizes(model, studied.precision)
    loaded = sum(value.numel() * value.element_size() for value in model.parameters())
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


def _loading_precision(recipe: Recipe, precision: Precision) -> Any:
    """Load frozen bases in the arithmetic's own type; weights that train come in fp32, for the masters."""
    frozen = recipe.adapter.kind != "none"
    return "pure_bf16" if frozen and precision.compute == torch.bfloat16 else precision.name


def _row_notes(studied: Studied, rows: RowChange, model: Any) -> tuple[str, ...]:
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
    return tuple(notes)
