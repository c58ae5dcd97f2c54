"""Everything that is known of a run before a weight is loaded: names, template and its proof, data, order of the steps.

The first part of a run. Mistakes are found in the order of what they cost: names, model files and templates come
before data, data before weights. The recipe is resolved here, once; everything below receives its sections or plain
values.

Why: nothing is written to the run folder here, so that wrong input leaves none behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import TemplateError
from instil.evaluation.during_training import check_tasks
from instil.model.adapters.targets import left_out
from instil.model.chat_tokens import TokenChange
from instil.model.device_memory import processes_on
from instil.model.folder.config import load_config
from instil.model.folder.file_checks import check_tokenizer
from instil.model.folder.from_config import model_of_config
from instil.model.folder.location import ModelLocation, locate
from instil.model.folder.weight_checks import check_shapes
from instil.model.loading import check_loadable, weight_type
from instil.preparation.chat_setup import ChatSetup, set_up_chat, with_date, with_max_tokens
from instil.preparation.prepare import Prepared, prepare
from instil.recipe import BETAS, Recipe, reading_of
from instil.run_warning import RunWarning
from instil.screen import work
from instil.training.disk_space import DiskNeed, disk_need, num_saves
from instil.training.memory.estimate import Sizes, measure_sizes
from instil.training.memory.fit import Workload
from instil.training.preference.checks import check_preference, start_of
from instil.training.processes.join import check_sequence
from instil.training.processes.ranks import Ranks
from instil.training.recipe_checks import (
    check_heads,
    check_heldout,
    check_packages,
    check_positions,
    check_settings,
    check_stored_quantization,
    notes_of,
    saved_adapter,
    why_no_shards_by_settings,
    why_whole_by_settings,
)
from instil.training.records.due import EVALUATIONS_PER_RUN
from instil.training.records.run_folder import check_output
from instil.training.records.trackers import check_trackers
from instil.training.setting_warnings import setting_warnings
from instil.training.step.default_rate import default_rate
from instil.training.step.order import Order, plan_order
from instil.training.step.precision import Precision, choose_precision
from instil.training.trainable import make_empty_trainable


@dataclass(frozen=True, slots=True)
class Preflight:
    """What is known before a weight is loaded.

    Attributes:
        recipe: The resolved recipe; see `resolve`.
        location: Where the model is.
        chat: Tokenizer and template.
        template: Which template it is, in words.
        change: What was changed in the tokenizer.
        prepared: The data.
        order: Which examples are in which step.
        precision: How the run computes.
        rate_words: Where the learning rate comes from, in words.
        empty_model: The model as it will train, on `meta`: shapes without weights.
        notes: What the user should know, a line each.
        warnings: What is probably wrong with template, data and settings.
    """

    recipe: Recipe
    location: ModelLocation
    chat: ChatTokenizer
    template: str
    change: TokenChange
    prepared: Prepared
    order: Order
    precision: Precision
    rate_words: str
    empty_model: Any
    notes: tuple[str, ...]
    warnings: tuple[RunWarning, ...] = ()

    def sizes(self) -> Sizes:
        """Measure what the run's memory depends on in the model, without loading a weight."""
        return measure_sizes(self.empty_model, self.precision)

    def disk(self, sizes: Sizes) -> DiskNeed:
        """Return what the run writes to the disk.

        Args:
            sizes: As for `workload`.
        """
        recipe, num_steps = self.recipe, self.order.num_steps
        evaluate_every = recipe.evaluate.every or max(1, -(-num_steps // EVALUATIONS_PER_RUN))
        return disk_need(
            sizes,
            self.precision,
            optimizer=recipe.optimizer.name,
            checkpoint=recipe.checkpoint,
            num_saves=num_saves(num_steps, recipe.checkpoint.every or evaluate_every),
            is_adapter=recipe.adapter.kind != "none",
        )

    def workload(self, sizes: Sizes) -> Workload:
        """Return what the run's memory depends on.

        Args:
            sizes: Of the model: from `sizes`, or measured on the loaded one.
        """
        training = self.recipe.training
        return Workload(
            sizes,
            self.precision,
            self.prepared.train,
            self.order,
            micro_batch_tokens=training.micro_batch_tokens,
            gradient_checkpointing=training.gradient_checkpointing,
            optimizer=self.recipe.optimizer.name,
            quantize=self.recipe.model.quantize,
            offload=self.recipe.parallel.offload,
            offload_activations=training.offload_activations == "on",
        )


def run_preflight(recipe: Recipe, ranks: Ranks, *, say: Callable[[str], None], loads: bool = True) -> Preflight:
    """Check the settings, prove the template, prepare the data and plan the steps.

    Args:
        recipe: The recipe as the user wrote it.
        ranks: The processes; they share the preparation of the data.
        say: Prints a line for the user.
        loads: Whether the weights will be loaded. If so, they must be present and intact, and memory must suffice.

    Raises:
        InstilError: If names, model files, template, data or settings are wrong. Errors in the model come before the
            data is prepared.
    """
    precision = choose_precision(recipe.training.precision, ranks.device)
    # Settings alone: nothing is read yet.
    num_ranks = max(ranks.size, recipe.parallel.processes)
    check_sequence(recipe.parallel, num_ranks)
    check_settings(recipe, precision, device=ranks.device, num_ranks=num_ranks)
    check_preference(recipe)
    check_tasks(recipe.evaluate.tasks)
    if loads:
        check_packages(quantize=recipe.model.quantize, optimizer=recipe.optimizer.name)
    check_trackers(recipe.tracking.to)
    # A run that is there already may be planned again, or resumed; `train` has its own rule for it.
    check_output(Path(recipe.output), resume=True)
    # Small files of the model: configuration, tokenizer, template.
    with work("reading configuration and tokenizer"):
        location = locate(recipe.model.name, recipe.model.revision, trust_remote_code=recipe.model.trust_remote_code)
        check_tokenizer(location.tokenizer_folder)
        location = start_of(recipe, location)
        recipe, setup = resolve(recipe, location, precision)
    prove_template(setup.chat)
    with work("checking the model"):
        config = load_config(location, trust_remote_code=recipe.model.trust_remote_code)
        stored_notes = check_stored_quantization(recipe, config, name=location.name)
        # The model without weights. Adapter targets and frozen names are checked on it.
        model = _empty_model(recipe, location, config, precision, ranks, loads=loads)
        check_heads(model, sequence=recipe.parallel.sequence)
        num_parameters = sum(parameter.numel() for parameter in model.parameters())
        recipe, rate_words = _with_rate(recipe, num_parameters)
        beyond = check_positions(recipe.data.max_tokens, model, name=recipe.model.name)
        model = empty_trainable(model, location, recipe, setup, device=ranks.device)
    model_notes = list(stored_notes)
    if recipe.adapter.kind == "lora" and not (location.adapter_folder or recipe.adapter.resume_from):
        model_notes += left_out(model, recipe.adapter.targets)
    # The data comes last: preparing it may take minutes.
    prepared = prepare(recipe, setup.chat, team=ranks, say=say)
    for line in prepared.lines():
        say(line)
    check_heldout(recipe, len(prepared.heldout))
    together = 2 if reading_of(recipe.training.objective) == "pairs" else 1
    order = plan_order(
        len(prepared.train) // together,
        batch_size=recipe.training.batch_size,
        epochs=recipe.training.epochs,
        max_steps=recipe.training.max_steps,
        seed=recipe.training.seed,
        shuffle=recipe.training.shuffle,
        together=together,
    )
    return Preflight(
        recipe=recipe,
        location=location,
        chat=setup.chat,
        template=setup.template,
        change=setup.change,
        prepared=prepared,
        order=order,
        precision=precision,
        rate_words=rate_words,
        empty_model=model,
        notes=(*setup.notes, *model_notes, *notes_of(recipe, order)),
        warnings=(
            *setup.warnings,
            *(RunWarning("beyond_context", text, recipe.data.max_tokens) for text in beyond),
            *prepared.warnings(recipe.data),
            *setting_warnings(recipe, order, num_parameters=num_parameters),
        ),
    )


def resolve(recipe: Recipe, location: ModelLocation, precision: Precision) -> tuple[Recipe, ChatSetup]:
    """Decide the open settings that the data's encoding depends on.

    These settings are the longest example, a saved adapter's settings, the date and the precision. The learning rate
    follows when the size of the model is known. Nothing else rewrites the recipe. Other open settings stay open in the recipe and are read where they
    act: `device` (`join`), `parallel.mode` (`replicate_or_shard`), `training.compile` (`compiling`), `evaluate.every`
    and `checkpoint.every` (`loop`), `data.too_long` (`encoding.truncation`).

    Args:
        recipe: The recipe as the user wrote it.
        location: Where the model is.
        precision: How the run computes.

    Returns:
        The resolved recipe, which the run folder stores, and the chat setup that two of its settings depend on.
    """
    recipe = with_max_tokens(recipe, location)
    recipe = recipe.override({"adapter": saved_adapter(recipe.adapter, location)})
    # The longest example is an encoding setting, so it has to be decided before the tokenizer is set up.
    setup = set_up_chat(recipe, location)
    recipe = with_preference_defaults(with_date(recipe, setup.chat))
    return recipe.override({"training": {"precision": precision.name}}), setup


def with_preference_defaults(recipe: Recipe) -> Recipe:
    """Return a recipe with beta and the length of a run that learns from preferences, where it leaves them open.

    Why: published runs take one pass over the pairs. More passes fit them without learning the preference.
    """
    objective = recipe.training.objective
    if objective == "sft":
        return recipe
    changes: dict[str, Any] = {}
    if "epochs" not in recipe.training.model_fields_set:
        changes["training"] = {"epochs": 1.0}
    if recipe.preference.beta is None:
        changes["preference"] = {"beta": BETAS[objective]}
    return recipe.override(changes) if changes else recipe


def _with_rate(recipe: Recipe, num_parameters: int) -> tuple[Recipe, str]:
    """Return the recipe with its learning rate, and where that comes from, in words.

    Args:
        recipe: The resolved recipe.
        num_parameters: Numbers in the model, without adapters.
    """
    default = default_rate(
        recipe.adapter.kind, num_parameters, optimizer=recipe.optimizer.name, objective=recipe.training.objective
    )
    if recipe.optimizer.lr is not None:
        return recipe, f"as set; the default for {default.words} is {default.value:g}"
    return recipe.override({"optimizer": {"lr": default.value}}), f"the default for {default.words}"


def empty_trainable(
    model: Any, location: ModelLocation, recipe: Recipe, setup: ChatSetup, *, device: torch.device
) -> Any:
    """Turn a model on `meta` into what a recipe trains; see `make_empty_trainable`."""
    return make_empty_trainable(
        model,
        location,
        adapter=recipe.adapter,
        training=recipe.training,
        tokenizer=setup.chat.tokenizer,
        change=setup.change,
        device=device,
    )


def _empty_model(
    recipe: Recipe, location: ModelLocation, config: Any, precision: Precision, ranks: Ranks, *, loads: bool
) -> Any:
    """Make the model on `meta`, and check its files and the memory for its weights before the data is prepared."""
    trust = recipe.model.trust_remote_code
    if not loads or recipe.model.initialise == "random":
        with torch.device("meta"):
            return model_of_config(location, config, trust=trust)
    dtype = loaded_type(recipe, precision)
    device, copies, parts = ranks.device, processes_on(ranks.device), 1
    if ranks.size > 1 and recipe.parallel.mode != "replicated":
        whole = why_whole_by_settings(recipe, location, config) or why_no_shards_by_settings(recipe, precision)
        if whole is None:
            # Each reads the rows of its shard. If the model's structure forbids that, loading it asks for room again.
            parts = ranks.size
        else:
            # They load in turn: one at a time holds the whole model, on the CPU.
            device, copies = torch.device("cpu"), 1
    check_loadable(recipe.model, location, dtype=dtype, device=device, copies=copies, parts=parts)
    return check_shapes(location, config, trust=trust)


def prove_template(chat: ChatTokenizer) -> None:
    """Refuse a template that would train something else than what is served.

    Raises:
        TemplateError: With the first finding of the proof.
    """
    proof = chat.prove()
    if not proof.passed:
        failures = [finding for finding in proof.findings if finding.severity == "failure"]
        first, *others = failures or proof.findings
        more = f" (and {len(others)} more)" if others else ""
        raise TemplateError(
            f"{chat.template.name}: the template does not pass its proof: {first}{more}; "
            "see instil template prove, and set model.template or the data setting that is named there."
        )


def loaded_type(recipe: Recipe, precision: Precision) -> torch.dtype:
    """Return the type that a run's weights have when they are loaded, before any are laid in shards."""
    return weight_type(loading_precision(precision, trains_adapter=recipe.adapter.kind != "none"), "training")


def loading_precision(precision: Precision, *, trains_adapter: bool) -> Any:
    """Return the precision in which a model is loaded.

    A frozen base is loaded in the dtype of the arithmetic. Weights that train are loaded in fp32, for the master
    copies.

    Args:
        precision: How the run computes.
        trains_adapter: Whether adapters train and the base is frozen.
    """
    return "pure_bf16" if trains_adapter and precision.compute == torch.bfloat16 else precision.name
