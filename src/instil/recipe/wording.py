"""Words the errors of a recipe: the key, what was found, what is allowed, what to do."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError

from instil.errors import nearest
from instil.recipe.settings import Settings
from instil.setting_aliases import known_elsewhere

_UNION_TAGS = {"int", "constrained-int", "str", "float", "literal", "none"}


def explain(recipe: type[Settings], error: ValidationError) -> str:
    """Return a validation error as one line: the key, what was found, what is allowed, what to do."""
    errors = error.errors()
    # An unknown key comes first: it is often the reason for the other errors.
    first = next((entry for entry in errors if entry["type"] == "extra_forbidden"), errors[0])
    # Pydantic adds the tried member of a union to the location; it is no part of the key.
    location = [part for part in first["loc"] if not (isinstance(part, str) and ("[" in part or part in _UNION_TAGS))]
    key = ".".join(str(part) for part in location)
    if first["type"] == "extra_forbidden":
        allowed = list(_settings_at(recipe, location[:-1]).model_fields)
        name = str(location[-1])
        meant = known_elsewhere(name) or nearest(name, allowed) or group_hint(recipe, name)
        return f"unknown key {key!r}{meant}. Allowed here: {', '.join(allowed)}. Fix or remove it."
    reason = first["msg"].removeprefix("Value error, ")
    reason = re.sub(r"a valid dictionary or instance of \w+", "a mapping of settings", reason)
    return f"{key or 'settings'}: found {first.get('input')!r}. {reason[0].upper()}{reason[1:]}. See docs/settings.md."


def group_hint(recipe: type[Settings], name: str) -> str:
    """Return a hint with the group of a setting, or nothing where no group or several have the name."""
    groups = [group for group in sections_of(recipe) if name in _settings_at(recipe, [group]).model_fields]
    return f" (did you mean {groups[0] + '.' + name!r}?)" if len(groups) == 1 else ""


def sections_of(recipe: type[Settings]) -> frozenset[str]:
    """Return the names of the groups in a recipe."""
    return frozenset(name for name, field in recipe.model_fields.items() if field.default_factory is not None)


def _settings_at(recipe: type[Settings], location: list[Any]) -> type[Settings]:
    """Return the group of settings at a location such as ``('data', 'sources', 0)``."""
    group = recipe
    for part in location:
        if isinstance(part, int):
            continue
        annotation = group.model_fields[part].annotation
        for candidate in (annotation, *getattr(annotation, "__args__", ())):
            if isinstance(candidate, type) and issubclass(candidate, Settings):
                group = candidate
    return group
