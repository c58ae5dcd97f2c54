"""Make the recipe of a public call from what the caller passed: a recipe, a file, settings, and data from anywhere.

Why: rows from memory become a file beside the prepared stores here, once. Everything below works with a recipe whose
sources are paths, so worker processes, resuming and the stores need no second way.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from instil.api.subjects import run_name, subject_of
from instil.data.memory_rows import is_path, is_rows, name_of_sources, save_rows, sources_in
from instil.errors import RecipeError
from instil.preparation.cache_key import cache_folder
from instil.recipe import DataSettings, Recipe, nested_settings

AnyRecipe: TypeAlias = Any
"""What a public call takes first: a recipe, the path of its file, its settings, data from anywhere, or None."""
_SOURCES = ("sources", "heldout")


def recipe_of(
    recipe: AnyRecipe, *, data: Any = None, settings: Mapping[str, Any] | None = None, needs_data: bool = False
) -> Recipe:
    """Return the recipe of a public call.

    Args:
        recipe: The recipe, the path of its file, the name of one that ships, a mapping of settings, or None. Data
            stands for a recipe with that data: a path, a Hub id, rows, or a list of paths and tables.
        data: Replaces the recipe's `data.sources`: a path, rows from memory, or a list of paths and tables. A mapping
            with settings of `data` is taken as such.
        settings: Settings that replace the recipe's, nested or with dotted keys. `data.sources` and `data.heldout`
            may be rows too.
        needs_data: Whether a recipe without data is an error.

    Raises:
        RecipeError: If the recipe or a setting is wrong, or the data is named twice or not at all.
        DataError: If the data cannot be used, or the rows cannot be written beside the prepared stores.
    """
    overrides = nested_settings(settings or {})
    recipe, first = _recipe_or_data(recipe)
    if first is not None:
        if data is not None or "sources" in _group(overrides, "data"):
            name = "data" if isinstance(first, Mapping) else name_of_sources(first)
            raise RecipeError(f"{name}: the data is named twice. Expected it once. Leave one of them out.")
        data = first
    if _is_data_settings(data):
        overrides = nested_settings({"data": dict(data), **_dotted(overrides)})
        data = None
    rows: dict[str, list[Any]] = {}
    if isinstance(recipe, Mapping):
        recipe, rows = _without_rows(nested_settings(recipe))
    overrides, replaced = _without_rows(overrides)
    rows |= replaced
    if data is not None:
        rows["sources"] = sources_in(data, name="data")
    resolved = _with_overrides(recipe, overrides, name=_name_of(rows.get("sources"), overrides))
    if needs_data and not rows.get("sources") and not resolved.data.sources and "data.sources" not in resolved.sweep:
        raise RecipeError(
            "data.sources: found none. Expected data to train on. Name it: instil train rows.jsonl, --data rows.jsonl, or "
            "data= in Python."
        )
    if not rows:
        return resolved
    folder = cache_folder(resolved)
    return resolved.override({"data": {key: [_path_of(part, folder) for part in parts] for key, parts in rows.items()}})


def _recipe_or_data(first: Any) -> tuple[Any, Any]:
    """Return what stands first in a call as a recipe or as data; the other one is None."""
    if isinstance(first, (str, os.PathLike)) and isinstance(os.fspath(first), str):
        subject = subject_of(os.fspath(first))
        return subject.recipe, subject.data
    is_data = is_rows(first) or _is_data_settings(first)
    return (None, first) if is_data else (first, None)


def names_recipe(first: AnyRecipe) -> bool:
    """Return whether what stands first in a call is a recipe rather than data.

    Example:
        >>> names_recipe("full"), names_recipe({"model": "demo"}), names_recipe([{"text": "x"}])
        (True, True, False)
    """
    return first is not None and _recipe_or_data(first)[1] is None


def _is_data_settings(value: Any) -> bool:
    """Return whether a value is settings of the group `data`."""
    return isinstance(value, Mapping) and bool(value) and value.keys() <= DataSettings.model_fields.keys()


def _without_rows(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Return settings without the sources that are rows, and these sources by their setting."""
    group = settings.get("data")
    if not isinstance(group, Mapping):
        return settings, {}
    rows = {
        key: sources_in(group[key], name=f"data.{key}") for key in _SOURCES if key in group and _has_rows(group[key])
    }
    kept = {key: value for key, value in group.items() if key not in rows}
    return {**settings, "data": kept}, rows


def _has_rows(value: Any) -> bool:
    """Return whether the value of a setting is rows; what a recipe file could hold is left to the recipe's checks."""
    if isinstance(value, (list, tuple)):
        return any(not is_path(part) and not (isinstance(part, Mapping) and "path" in part) for part in value)
    return not (value is None or is_path(value) or type(value) is dict)


def _path_of(source: Any, folder: Path) -> str:
    """Return the path of a source; rows from memory are written to a file first."""
    return os.fspath(source) if is_path(source) else save_rows(source, folder)


def _group(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a group of settings; empty if there is none."""
    group = settings.get(name)
    return group if isinstance(group, Mapping) else {}


def _name_of(sources: list[Any] | None, overrides: Mapping[str, Any]) -> str:
    """Return the name of a run without a recipe file: that of its first data, unless these are rows from memory."""
    named = sources if sources is not None else _group(overrides, "data").get("sources")
    first = named[0] if isinstance(named, (list, tuple)) and named else named
    if isinstance(first, Mapping):
        first = first.get("path")
    return run_name(str(first)) if is_path(first) else "run"


def _with_overrides(recipe: AnyRecipe, overrides: Mapping[str, Any], *, name: str) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe.override(overrides)
    if isinstance(recipe, (str, Path)):
        return Recipe.load(recipe, overrides)
    if recipe is None:
        return Recipe.from_mapping(overrides, source="settings", name=name)
    if isinstance(recipe, Mapping):
        return Recipe.from_mapping(recipe, name="run").override(overrides)
    value = f" {recipe!r}" if isinstance(recipe, int | float) else ""  # rows would fill the screen
    raise RecipeError(
        f"recipe: found {type(recipe).__name__}{value}. Expected a Recipe, the path of a recipe file, a "
        "mapping of settings, or data. Pass one of them."
    )


def _dotted(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with a dotted key for each one in the group `data`, so that one named twice is noticed."""
    data = nested.get("data")
    others = {key: value for key, value in nested.items() if key != "data"}
    return others | ({f"data.{key}": value for key, value in data.items()} if isinstance(data, Mapping) else {})
