"""What is known of a run before any weight is loaded: names, template and its proof, data, order of the steps.

First stop of training, in the order in which a mistake is found soonest: names, model files and templates before data, data before
weights. Questionable on purpose: nothing is written here, so bad input leaves no run folder behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import TemplateError
from instil.evaluation.during_training import check_tasks
from instil.model.adapters.targets import left_out
from instil.model.device_memory import processes_on
from instil.model.folder.config import load_config
from instil.model.folder.file_checks import check_tokenizer
from instil.model.folder.from_config import model_of_config
from instil.model.folder.location import ModelLocation, locate
from instil.model.folder.weight_checks import check_shapes
from instil.model.loading import check_loadable, weight_type
from instil.model.new_tokens import TokenChange
from instil.preparation.chat_setup import set_up_chat, with_date, with_max_tokens
from instil.preparation.prepare import Prepared, prepare
from instil.recipe import Recipe
from instil.training.memory.estimate import Sizes, measure_sizes
from instil.training.processes.ranks import Ranks
from instil.training.recipe_checks import (
    check_heldout,
    check_packages,
    check_positions,
    check_settings,
    notes_of,
    with_saved_adapter,
)
from instil.training.records.trackers import check_trackers
from instil.training.step.optimizer import DEFAULT_LR
from instil.training.step.order import Order, plan_order
from instil.training.step.precision import Precision, choose_precision
from instil.training.trainable import learnable_without_content


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
        bare: The model as it will learn, without content: on `meta`.
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
    bare: Any
    notes: tuple[str, ...]

    def sizes(self) -> Sizes:
        """Find out what the run's memory depends on, without loading a weight."""
        return measure_sizes(self.bare, self.precision)


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
    check_settings(recipe, precision, device=ranks.device, num_ranks=max(ranks.size, recipe.parallel.processes))
    check_tasks(recipe.evaluate.tasks)
    if loads:
        check_packages(recipe)
    check_trackers(recipe.tracking.to)
    location = locate(recipe.model.name, recipe.model.revision, trust_remote_code=recipe.model.trust_remote_code)
    check_tokenizer(location.tokenizer_folder)
    recipe = with_saved_adapter(with_max_tokens(recipe, location), location)
    setup = set_up_chat(recipe, location)
    recipe = with_date(recipe, setup.chat)
    prove_template(setup.chat)
    bare = _without_content(recipe, location, precision, ranks, loads=loads)
    model_notes = check_positions(recipe, bare)
    bare = learnable_without_content(
        bare, recipe, location, tokenizer=setup.chat.tokenizer, change=setup.change, device=ranks.device
    )
    if recipe.adapter.kind == "lora" and not (location.adapter_folder or recipe.adapter.resume_from):
        model_notes += left_out(bare, recipe.adapter.targets)
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
        bare,
        (*setup.notes, *model_notes, *notes_of(recipe, order)),
    )


def _without_content(
    recipe: Recipe, location: ModelLocation, precision: Precision, ranks: Ranks, *, loads: bool
) -> Any:
    """Make the model on `meta`, and find out what is wrong with its files while nothing is prepared yet."""
    trust = recipe.model.trust_remote_code
    config = load_config(location, trust_remote_code=trust)
    if not loads or recipe.model.initialise == "random":
        with torch.device("meta"):
            return model_of_config(location, config, trust=trust)
    dtype = weight_type(loading_precision(recipe, precision), "training")
    # of several processes that may hold shards, one at a time may hold the whole, on the CPU
    parted = ranks.size > 1 and recipe.parallel.mode != "replicated"
    device = torch.device("cpu") if parted else ranks.device
    check_loadable(recipe.model, location, dtype=dtype, device=device, copies=1 if parted else processes_on(device))
    return check_shapes(location, config, trust=trust)


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


def loading_precision(recipe: Recipe, precision: Precision) -> Any:
    """Say in which precision a model is loaded: frozen bases in the arithmetic's own type; weights that train come in fp32, for the masters."""
    frozen = recipe.adapter.kind != "none"
    return "pure_bf16" if frozen and precision.compute == torch.bfloat16 else precision.name
