"""The settings that name files and folders, and which of them depend on the folder in which a command was started."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from instil.files import home_path
from instil.recipe.data import MEMORY_ROWS
from instil.recipe.recipe import Recipe
from instil.recipe.settings import Settings, names_a_path
from instil.remote.urls import is_url

_MADE = ("output", "data.store", "checkpoint.mirror")
"""Folders that a run makes. Every other name may be one of the Hub, or of something that ships."""


@cache
def path_settings() -> tuple[str, ...]:
    """Return the settings that name a file or a folder, as their types in the schema say; sources of data are apart.

    Example:
        >>> path_settings()
        ('output', 'model.name', 'model.template', 'adapter.resume_from', 'data.store', 'checkpoint.mirror')
    """
    found = [name for name, section in Recipe.model_fields.items() if names_a_path(section)]
    for group, section in Recipe.model_fields.items():
        kind = section.annotation
        if isinstance(kind, type) and issubclass(kind, Settings):
            found += [f"{group}.{name}" for name, info in kind.model_fields.items() if names_a_path(info)]
    return tuple(found)


def relative_paths(recipe: Recipe) -> tuple[str, ...]:
    """Return the relative paths of a recipe, each as `setting: value`. They begin in the folder of this process.

    A name that may be one of the Hub counts where there is such a file or folder here.

    Example:
        >>> relative_paths(Recipe.from_mapping({"output": "runs/a", "data": {"store": "/shared/store"}}))
        ('output: runs/a',)
    """
    return tuple(f"{name}: {value}" for name, value in _paths_of(recipe) if _is_relative(name, value))


def _paths_of(recipe: Recipe) -> Iterator[tuple[str, str]]:
    for name in path_settings():
        value = recipe
        for part in name.split("."):
            value = getattr(value, part)
        if isinstance(value, str):
            yield name, value
    for group in ("sources", "heldout"):
        for source in getattr(recipe.data, group):
            yield f"data.{group}", source.path


def _is_relative(name: str, value: str) -> bool:
    if is_url(value) or value.startswith(MEMORY_ROWS) or Path(value).is_absolute():
        return False
    return name in _MADE or glob.has_magic(value) or home_path(value).exists()
