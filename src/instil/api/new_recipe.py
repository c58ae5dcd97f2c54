"""Write a recipe for a model and data at hand: each setting fits them, and a comment says why.

``instil recipe new`` prints and asks; the decisions are here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from instil.api.data_sample import DataSample, sample_data
from instil.api.recipes import recipe_of
from instil.api.subjects import subject_of
from instil.errors import RecipeError
from instil.recipe import Recipe
from instil.recipe.commented import commented_yaml, settings_that_were_set
from instil.units import byte_size, counted, short_count

if TYPE_CHECKING:
    import torch

    from instil.model.folder.location import ModelLocation
    from instil.training.memory.estimate import Memory

Adapter = Literal["none", "lora"]
_ROUNDED_TO = 64
_HEADROOM = 1.25
"""Times the longest sampled example: rows that were not sampled may be longer."""
_FEWEST_HELDOUT = 40
"""Held-out rows below which a loss moves by chance (`few_heldout` warns below 20)."""


@dataclass(frozen=True, slots=True)
class NewRecipe:
    """A recipe that fits a model and data.

    Attributes:
        recipe: The recipe.
        comments: Why a setting has its value, by its name with dots.
        head: Lines about the model and the data.
    """

    recipe: Recipe
    comments: Mapping[str, str]
    head: tuple[str, ...]

    def text(self, path: str) -> str:
        """Return the recipe as YAML with comments, for a file of that name."""
        settings = settings_that_were_set(self.recipe)
        settings.pop("output", None)  # named after the file
        return commented_yaml(
            settings,
            self.comments,
            head=[*self.head, f"Start it with: instil train {path}", "All settings: docs/reference/settings.md"],
        )


def new_recipe(data: str, *, model: str = "demo", adapter: Adapter | None = None, device: str = "auto") -> NewRecipe:
    """Return a recipe for a model and data.

    No weight is loaded. Rows are read and a sample of them is encoded.

    Args:
        data: File, folder, glob or Hub id.
        model: What `model.name` takes.
        adapter: ``none`` trains every weight, ``lora`` trains adapters; None: by memory.
        device: Where the run is to compute.

    Raises:
        InstilError: If the data or the model cannot be used, or nothing fits into memory.
    """
    if adapter not in (None, "none", "lora"):
        raise RecipeError(f"adapter: found {adapter!r:.80}. Expected none or lora. Leave it out to decide by memory.")
    if data == "-":
        raise RecipeError("recipe new: standard input can be read once only. Expected a file. Save the rows first.")
    if subject_of(data).data is None:
        raise RecipeError(f"{data}: is a recipe. Expected data. Name a file, folder, glob or Hub id.")

    # Why: torch takes seconds to import, and a wrong argument is reported before that.
    from instil.model.folder.location import locate
    from instil.preparation.chat_setup import set_up_chat

    base = recipe_of(data, settings={"model": model, "device": device})
    location = locate(base.model.name)
    sample = sample_data(data, set_up_chat(base, location).chat)
    chosen = _Chosen({"model.name": model, "data.sources": [data]}, {})
    if device != "auto":
        chosen.put("device", device, "")
    longest = _choose_length(chosen, sample, location)
    _choose_rows(chosen, sample)
    parameters = _choose_adapter(chosen, location, adapter, tokens=longest, recipe=base)
    more = " and more" if sample.has_more else ""
    head = (
        f"{data}: {counted(sample.rows, 'row')}{more}; {model}: {short_count(parameters)} parameters.",
        f"Lengths are those of {counted(len(sample.lengths), 'example')} drawn from the rows.",
    )
    return NewRecipe(Recipe.from_mapping(chosen.settings), chosen.comments, head)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The settings that were chosen, and why."""

    settings: dict[str, Any]
    comments: dict[str, str]

    def put(self, name: str, value: Any, why: str) -> None:
        self.settings[name] = value
        self.comments[name] = why


def _choose_length(chosen: _Chosen, sample: DataSample, location: ModelLocation) -> int:
    """Choose `data.max_tokens` by the lengths of the sample and the model's context, and return it."""
    from instil.model.folder.config import context_length, load_config  # Why: they import transformers

    context = context_length(load_config(location))
    longest, median = sample.lengths[-1], sample.lengths[len(sample.lengths) // 2]
    limit = math.ceil(longest * _HEADROOM / _ROUNDED_TO) * _ROUNDED_TO
    seen = f"The longest sampled example has {longest:,} tokens, half of them have at most {median:,}."
    if context is None or limit <= context:
        chosen.put("data.max_tokens", limit, f"{seen} Longer ones are left out and counted.")
        return limit
    share = sample.share_within(context)
    if not share:
        raise RecipeError(
            f"data: every sampled example is longer than the model's context ({sample.lengths[0]:,} of {context:,} tokens, "
            "at least). Expected shorter rows, or a model with a longer context. Choose another model."
        )
    chosen.put(
        "data.max_tokens",
        context,
        f"{seen} The model's context ends here: {share:.0%} of the examples fit, longer ones are left out and counted. "
        "data.too_long: keep_last_turns keeps the last turns of long conversations.",
    )
    return context


def _choose_rows(chosen: _Chosen, sample: DataSample) -> None:
    """Choose what depends on the number of rows: held-out share, batch size, epochs; and what happens to bad rows."""
    rows = sample.rows
    if sample.bad_rows or sample.refused:
        chosen.put(
            "data.on_bad_row",
            "skip",
            f"{counted(sample.bad_rows + sample.refused, 'row')} cannot be used; the first: {sample.first_error} "
            "They are left out and counted. `instil inspect` lists them.",
        )
    share = 0.0 if rows < 10 else min(0.2, max(0.05, round(_FEWEST_HELDOUT / rows, 2)))
    about = counted(round(rows * share), "row")
    why = (
        f"About {about}, to see whether the model learns more than these rows."
        if share
        else "Too few rows to hold any out."
    )
    chosen.put("data.heldout_share", share, why)
    trained = max(1, round(rows * (1 - share)))
    batch = next(size for size in (32, 16, 8, 4) if size == 4 or trained >= 40 * size)
    epochs = 3 if trained < 20_000 else 2 if trained < 100_000 else 1
    steps = math.ceil(trained / batch) * epochs
    often = "Small data is seen several times." if epochs > 1 else "So many rows need one pass."
    chosen.put("training.epochs", epochs, f"{often} The run has about {steps:,} steps.")
    chosen.put(
        "training.batch_size",
        batch,
        f"Examples of a step: 32, or fewer for 40 steps an epoch; {counted(trained, 'row')}.",
    )


def _choose_adapter(
    chosen: _Chosen, location: ModelLocation, adapter: Adapter | None, *, tokens: int, recipe: Recipe
) -> int:
    """Choose what trains by memory, and the learning rate by what trains; return the model's parameters."""
    # Why: torch takes seconds to import, and a wrong argument is reported before that.
    from instil.model.loading import choose_device
    from instil.training.memory.fit import USABLE
    from instil.training.memory.usage import free_memory
    from instil.training.step.default_rate import default_rate

    device = choose_device(recipe.device)
    free = free_memory(device)
    kinds: list[Adapter] = [adapter] if adapter else ["none", "lora"]
    needs: dict[Adapter, Memory] = {}
    for kind in kinds:
        needs[kind], parameters = _memory_of(location, kind, tokens=tokens, device=device, recipe=recipe)
        if needs[kind].peak <= free * USABLE:
            break
    what = {"none": "Full fine-tuning", "lora": "LoRA"}
    have = f"of the {byte_size(free)} that are free on {device.type}"
    if needs[kind].peak > free * USABLE:
        tried = " and ".join(f"{what[each]} needs about {byte_size(memory.peak)}" for each, memory in needs.items())
        raise RecipeError(
            f"{recipe.model.name}: does not fit into memory: {tried} {have}. Expected a smaller model, or shorter rows. "
            "Choose another model, or write the recipe for another device with --device."
        )
    why = f"{what[kind]} needs about {byte_size(needs[kind].peak)} {have}."
    if adapter is None and kind == "lora":
        why = f"{what['none']} would need about {byte_size(needs['none'].peak)}. {why}"
    chosen.put("adapter.kind", kind, why)
    rate = default_rate(kind, parameters)
    chosen.put("optimizer.lr", rate.value, f"The default for {rate.words}; see docs/how-it-works/training.md.")
    return parameters


def _memory_of(
    location: ModelLocation, adapter: Adapter, *, tokens: int, device: torch.device, recipe: Recipe
) -> tuple[Memory, int]:
    """Return the memory that a step needs at least, one example at a time, and the model's parameters."""
    import torch  # Why: as above

    from instil.model.folder.config import load_config
    from instil.model.folder.from_config import model_of_config
    from instil.preparation.chat_setup import set_up_chat
    from instil.training.memory.estimate import estimate_memory, measure_sizes
    from instil.training.preflight import empty_trainable
    from instil.training.step.precision import choose_precision

    recipe = recipe.override({"adapter": adapter})
    with torch.device("meta"):
        model = model_of_config(location, load_config(location), trust=False)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    setup = set_up_chat(recipe, location)
    model = empty_trainable(model, location, recipe, setup, device=device)
    precision = choose_precision(recipe.training.precision, device)
    memory = estimate_memory(
        measure_sizes(model, precision),
        precision,
        tokens=tokens,
        optimizer=recipe.optimizer.name,
        several=True,
        recompute=True,
        device="cuda" if device.type == "cuda" else "cpu",
    )
    return memory, parameters
