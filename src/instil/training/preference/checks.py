"""Settings that are wrong together with an objective of preferences, or without one."""

from __future__ import annotations

from dataclasses import replace

from instil.errors import RecipeError
from instil.model.folder.location import ModelLocation, locate, run_folder
from instil.recipe import PreferenceSettings, Recipe, reading_of, source_name

OBJECTIVES_OF: dict[str, tuple[str, ...]] = {
    "margin": ("simpo",),
    "length_normalized": ("dpo", "ipo"),
    "desirable_weight": ("kto",),
    "undesirable_weight": ("kto",),
}
"""Settings of the group `preference` that only some objectives read."""


def check_preference(recipe: Recipe) -> None:
    """Refuse settings that are wrong with the objective, whatever model and data are.

    Raises:
        RecipeError: With the first of them.
    """
    objective = recipe.training.objective
    if objective == "sft":
        _check_unused(recipe)
        return
    if recipe.training.loss != "cross_entropy":
        raise RecipeError(
            f"training.loss: {recipe.training.loss}, but training.objective is {objective}, which has a loss of its own. "
            "Leave training.loss out."
        )
    if recipe.training.router_loss:
        raise RecipeError(
            f"training.router_loss: found {recipe.training.router_loss:g}, but {objective} compares whole answers and "
            "takes no part of the router's loss. Leave it out."
        )
    weighted = [source for source in (*recipe.data.sources, *recipe.data.heldout) if source.weight != 1]
    if weighted:
        raise RecipeError(
            f"data.sources: {source_name(weighted[0].path)} has weight {weighted[0].weight:g}. With "
            f"training.objective: {objective} a weight would change the preference itself. Leave it out, or use repeat."
        )
    if reading_of(objective) == "judged" and recipe.training.batch_size < 2:
        raise RecipeError(
            "training.batch_size: found 1, but kto estimates the drift from mismatched answers of a step. Expected at "
            "least 2."
        )
    for name, objectives in OBJECTIVES_OF.items():
        if name in recipe.preference.model_fields_set and objective not in objectives:
            default = PreferenceSettings.model_fields[name].default
            if getattr(recipe.preference, name) != default:
                raise RecipeError(
                    f"preference.{name}: it is for {' and '.join(objectives)}, but training.objective is {objective}. "
                    "Leave it out."
                )


def _check_unused(recipe: Recipe) -> None:
    defaults = PreferenceSettings()
    for name in PreferenceSettings.model_fields:
        if getattr(recipe.preference, name) != getattr(defaults, name):
            raise RecipeError(
                f"preference.{name}: without effect, because training.objective is sft, which imitates answers. "
                "Set training.objective: dpo, or leave it out."
            )


def start_of(recipe: Recipe, location: ModelLocation) -> ModelLocation:
    """Return the model that a run starts from, which for an objective with a reference is the reference.

    For ``model.name: runs/sft/adapter`` that is the run's merged model.

    Why: a new adapter is saved with the name of its base. An adapter's own base lacks what the adapter learned, so a new
    one on both needs a folder that holds both.

    Args:
        recipe: The recipe.
        location: Where `model.name` is.

    Raises:
        RecipeError: If training would continue an adapter, or put a new one on an adapter without a merged model.
    """
    objective = recipe.training.objective
    if objective == "sft":
        return location
    if recipe.adapter.resume_from:
        raise RecipeError(
            f"adapter.resume_from: found {recipe.adapter.resume_from!r} with training.objective: {objective}. Which model "
            "is the reference is not clear: the base, or the base with this adapter. For the latter name the run or the "
            "adapter in model.name; a new adapter is then trained on it. Leave adapter.resume_from out."
        )
    if location.adapter_folder is None:
        return location
    run = run_folder(location)
    if run is not None and (run / "model" / "config.json").exists():
        return replace(locate(run), name=location.name)
    if recipe.adapter.kind != "none" or recipe.model.quantize != "none":
        raise RecipeError(
            f"model.name: {location.name} is an adapter, and a new adapter needs a base that holds what this one learned. "
            f"Expected a whole model. Merge it first: instil export {location.name} FOLDER, and name that folder."
        )
    return location
