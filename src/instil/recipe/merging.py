"""Mappings of settings: dotted keys nested, short forms written in full, one mapping laid over another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instil.errors import RecipeError
from instil.recipe.settings import Settings

SHORT_FORMS: Mapping[str, str] = {
    "model": "name",
    "adapter": "kind",
    "data": "sources",
    "preference": "beta",
    "optimizer": "name",
    "evaluate": "every",
    "checkpoint": "every",
    "parallel": "processes",
    "tracking": "to",
}
"""The setting that a group means where one value stands in its place: ``model: demo`` is ``model.name: demo``."""


def nested_settings(values: Any) -> dict[str, Any]:
    """Return settings nested as in a recipe file, from settings whose keys may have dots.

    Raises:
        RecipeError: If they are no mapping, a key is no text, or a setting occurs twice.

    Example:
        >>> nested_settings({"optimizer.lr": 1e-4, "optimizer": {"clip": 1}, "model": "demo"})
        {'optimizer': {'lr': 0.0001, 'clip': 1}, 'model': {'name': 'demo'}}
    """
    if not isinstance(values, Mapping):
        raise RecipeError(
            f"settings: found {values!r}. Expected a mapping of settings. See docs/reference/settings.md."
        )
    nested: dict[str, Any] = {}
    for key, value in values.items():
        if not isinstance(key, str):
            raise RecipeError(f"settings: found the key {key!r}. Expected the name of a setting. Fix or remove it.")
        group, dot, name = key.partition(".")
        entry = with_short_forms({group: {name: value} if dot else value})
        both = group in nested and isinstance(nested[group], Mapping) and isinstance(entry[group], Mapping)
        twice = sorted(nested[group].keys() & entry[group].keys()) if both else []
        if twice or (group in nested and not both):
            setting = ".".join([group, *twice[:1]])
            raise RecipeError(f"{setting}: found twice. Expected one value. Remove one of them.")
        nested[group] = {**nested[group], **entry[group]} if both else entry[group]
    return nested


def with_short_forms(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in which a short form, such as ``model: demo``, is written in full.

    Example:
        >>> with_short_forms({"adapter": "lora", "data": ["a.jsonl", "b.jsonl"], "training": {"seed": 1}})
        {'adapter': {'kind': 'lora'}, 'data': {'sources': ['a.jsonl', 'b.jsonl']}, 'training': {'seed': 1}}
    """
    return {
        group: {SHORT_FORMS[group]: value} if group in SHORT_FORMS and _is_short(value) else value
        for group, value in values.items()
    }


def _is_short(value: Any) -> bool:
    """Return whether the value of a group is that of one setting. An empty group has its defaults."""
    return not (value is None or isinstance(value, (Mapping, Settings)))


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in which values of a second mapping replace those of the first.

    Example:
        >>> merge({"model": {"name": "demo"}}, {"model": {"revision": "main"}})
        {'model': {'name': 'demo', 'revision': 'main'}}
    """
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(below, value) if both else value  # type: ignore[arg-type]
    return merged
