"""Recipe settings on the command line: ``--optimizer.lr 1e-4`` replaces the recipe file's value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from cyclopts import Parameter

from instil.api.recipes import recipe_of
from instil.data.memory_rows import is_saved_rows
from instil.data.sources.files import find_files
from instil.data.sources.rows import is_hub_id
from instil.errors import RecipeError
from instil.recipe import Recipe

Overrides: TypeAlias = Annotated[Recipe | None, Parameter(name="*")]
"""Every setting of the recipe as an option; only the typed ones are set."""
RecipeOrData: TypeAlias = Annotated[str | None, Parameter(allow_leading_hyphen=True)]
"""A recipe or data, first after the verb."""


def typed(settings: Recipe | None) -> dict[str, Any]:
    """Return the settings that were typed, nested as in the recipe file."""
    return {} if settings is None else settings.model_dump(exclude_unset=True)


def load_recipe(word: str | None, overrides: Mapping[str, Any], *, needs_data: bool = True) -> Recipe:
    """Return the recipe of a command: of a recipe file, of one that ships, or of data, with settings that replace its own.

    Args:
        word: The path or name of a recipe, or data; None for the settings alone.
        overrides: Settings that were typed.
        needs_data: Whether a recipe without data is an error.

    Raises:
        RecipeError: As `recipe_of`, or if the rows of the recipe came from a Python program.
        DataError: If a file that it names is not there.
    """
    recipe = recipe_of(word, settings=overrides, needs_data=needs_data)
    if recipe.has_memory_rows:
        raise RecipeError(
            f"{word}: its rows came from a Python program, so the command line cannot start it. Expected data in "
            f"files. Call instil.train({word!r}, data=rows) in Python, or name files with --data."
        )
    if needs_data:
        check_files(recipe)
    return recipe


def check_files(recipe: Recipe) -> None:
    """Raise if a file that the recipe names is not there.

    Why: libraries and a model take seconds to load, and a mistyped path should not wait for them.

    Raises:
        DataError: If there is no such file.
    """
    for source in (*recipe.data.sources, *recipe.data.heldout):
        if source.path != "-" and not is_hub_id(source.path) and not is_saved_rows(source.path):
            find_files(source.path, split=source.split, subset=source.subset)
