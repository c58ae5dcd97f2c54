"""Make the recipe of a public call from what the caller passed: a recipe, a file, settings, and data from anywhere.

Why: rows from memory become a file beside the prepared stores here, once. Everything below works with a recipe whose
sources are paths, so worker processes, resuming and the stores need no second way.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from instil.data.memory_rows import check_source, is_path, save_rows
from instil.errors import RecipeError
from instil.preparation.cache_key import cache_folder
from instil.recipe import DataSettings, Recipe, nested_settings

AnyRecipe: TypeAlias = Recipe | str | Path | Mapping[str, Any] | None
"""A recipe, the path of its file, its settings, or None for the settings alone."""


def recipe_of(recipe: AnyRecipe, *, data: Any = None, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe of a public call.

    Args:
        recipe: The recipe, the path of its file, a mapping of settings, or None.
        data: Replaces the recipe's `data.sources`: a path, a list of paths, or rows from memory. A mapping with
            settings of `data` is taken as such.
        settings: Settings that replace the recipe's, nested or with dotted keys.

    Raises:
        RecipeError: If the recipe or a setting is wrong.
        DataError: If the data cannot be used, or the rows cannot be written beside the prepared stores.
    """
    overrides = nested_settings(settings or {})
    if isinstance(data, Mapping) and data.keys() <= DataSettings.model_fields.keys() and data:
        overrides = nested_settings({"data": dict(data), **_dotted(overrides)})
        data = None
    resolved = _with_overrides(recipe, overrides)
    if data is None:
        return resolved
    return resolved.override({"data": {"sources": _sources(data, resolved)}})


def _with_overrides(recipe: AnyRecipe, overrides: Mapping[str, Any]) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe.override(overrides)
    if isinstance(recipe, (str, Path)):
        return Recipe.load(recipe, overrides)
    if recipe is None:
        return Recipe.from_mapping(overrides, source="settings", name="run")
    if isinstance(recipe, Mapping):
        return Recipe.from_mapping(recipe, name="run").override(overrides)
    raise RecipeError(
        f"recipe: found {type(recipe).__name__} {recipe!r:.80}. Expected a Recipe, the path of a recipe file or a "
        "mapping of settings. Pass rows as data=."
    )


def _dotted(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with a dotted key for each one in the group `data`, so that one named twice is noticed."""
    data = nested.get("data")
    others = {key: value for key, value in nested.items() if key != "data"}
    return others | ({f"data.{key}": value for key, value in data.items()} if isinstance(data, Mapping) else {})


def _sources(data: Any, recipe: Recipe) -> list[str]:
    """Return the paths of data; rows from memory are written to a file first."""
    if is_path(data):
        check_source(data)
        return [os.fspath(data)]
    if isinstance(data, (list, tuple)) and data and all(map(is_path, data)):
        return [os.fspath(path) for path in data]
    return [save_rows(data, cache_folder(recipe))]
