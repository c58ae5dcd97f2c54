"""Recipe settings on the command line: ``--optimizer.lr 1e-4`` replaces the recipe file's value."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from cyclopts import Parameter

from instil.recipe import Recipe

Overrides: TypeAlias = Annotated[Recipe | None, Parameter(name="*")]
"""Every setting of the recipe as an option; only the typed ones are set."""


def typed(settings: Recipe | None) -> dict[str, Any]:
    """Return the settings that were typed, nested as in the recipe file."""
    return {} if settings is None else settings.model_dump(exclude_unset=True)
