"""Recipe settings on the command line: ``--optimizer.lr 1e-4`` replaces the recipe file's value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from cyclopts import Parameter

from instil.errors import RecipeError
from instil.recipe import Recipe

Overrides: TypeAlias = Annotated[Recipe | None, Parameter(name="*")]
"""Every setting of the recipe as an option; only the typed ones are set."""


def typed(settings: Recipe | None) -> dict[str, Any]:
    """Return the settings that were typed, nested as in the recipe file."""
    return {} if settings is None else settings.model_dump(exclude_unset=True)


def load_recipe(path: str | Path, overrides: Mapping[str, Any]) -> Recipe:
    """Read a recipe file with settings that replace its own.

    Raises:
        RecipeError: As `Recipe.load`, or if its data are rows that a Python program passed.
    """
    recipe = Recipe.load(path, overrides)
    if recipe.has_memory_rows:
        raise RecipeError(
            f"{path}: its rows came from a Python program, so the command line cannot start it. Expected data in "
            f"files. Call instil.train({str(path)!r}, data=rows) in Python, or name files with --data.sources."
        )
    return recipe
