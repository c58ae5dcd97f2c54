"""Words the errors of a recipe: the key, what was found, what is allowed, what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from instil.errors import nearest
from instil.recipe.settings import Settings
from instil.setting_aliases import known_elsewhere

_UNION_TAGS = {"int", "constrained-int", "str", "float", "literal", "none"}
_LONGEST = 200
_KINDS = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "names with values",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of at most 4,300 digits",
    "int_type": "a whole number",
    "list_type": "a list",
    "mapping_type": "names with values",
    "model_attributes_type": "a mapping of settings",
    "model_type": "a mapping of settings",
    "string_type": "text",
    "string_unicode": "text without halves of surrogate pairs",
    "tuple_type": "a list",
}
"""What a value should have been, by the kind of pydantic's error. Its own words name kinds of Python."""


def explain(recipe: type[Settings], error: ValidationError) -> str:
    """Return a validation error as one line: the key, what was found, what is allowed, what to do."""
    errors = error.errors()
    # An unknown key comes first: it is often the reason for the other errors.
    first = next((entry for entry in errors if entry["type"] == "extra_forbidden"), errors[0])
    location = _without_tags(first["loc"])
    key = ".".join(str(part) for part in location)
    if first["type"] == "extra_forbidden":
        allowed = list(_settings_at(recipe, location[:-1]).model_fields)
        name = str(location[-1])
        meant = known_elsewhere(name) or nearest(name, allowed) or group_hint(recipe, name)
        return f"unknown key {key!r}{meant}. Allowed here: {', '.join(allowed)}. Fix or remove it."
    if isinstance(first.get("input"), list) and not any(isinstance(part, int) for part in location):
        return f"{in_plain_words(error)} For a run of each value, write sweep: {{{key}: …}}. See docs/how-to/sweeps.md."
    return f"{in_plain_words(error)} See docs/reference/settings.md."


def in_plain_words(error: ValidationError) -> str:
    """Return the first error about a value: its key, what was found, what it should have been."""
    errors = error.errors()
    first = errors[0]
    location = _without_tags(first["loc"])
    at_key = [entry for entry in errors if _without_tags(entry["loc"]) == location]
    reason = " or ".join(dict.fromkeys(_reason(entry) for entry in at_key))
    key = ".".join(map(str, location)) or "settings"
    return f"{key}: found {_shown(first.get('input'))}. {_sentence(reason)}"


def _without_tags(location: Sequence[Any]) -> list[Any]:
    """Return a location without the tried member of a union, which pydantic adds; it is no part of the key."""
    return [part for part in location if not (isinstance(part, str) and ("[" in part or part in _UNION_TAGS))]


def _reason(error: Mapping[str, Any]) -> str:
    """Return what a value should have been, without the names that Python gives to kinds of values."""
    if error["type"] == "missing":
        return f"{error['loc'][-1]} is missing; add it"
    if error["type"] in ("too_short", "too_long"):
        count = error["ctx"].get("min_length", error["ctx"].get("max_length"))
        return f"input should be {count} values"
    kind = _KINDS.get(error["type"])
    return f"input should be {kind}" if kind else error["msg"].removeprefix("Value error, ")


def _sentence(reason: str) -> str:
    """Return a reason as a sentence; of several reasons the start of the first one stands for all."""
    start = "input should be "
    first, *others = re.split(r" or (?=[Ii]nput should be )", reason)
    text = " or ".join([first, *(other[len(start) :] for other in others)])
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _shown(value: Any) -> str:
    """Return what was found; long values are cut, and what no file can hold is named by its kind."""
    if value is None or isinstance(value, (str, int, float, list, tuple, Mapping)):
        text = repr(value)
        return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return f"a value of the kind {type(value).__name__}"


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
