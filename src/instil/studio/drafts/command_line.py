"""The command line of a recipe: ``instil train`` with an option for each setting."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from instil.recipe.merging import SHORT_FORMS
from instil.studio.drafts.fields import fields
from instil.studio.drafts.text import flat_settings, sweep_in
from instil.studio.drafts.values import as_sources

_SWEEP_OPTIONS = {"best_by": "--best-by", "direction": "--direction", "search": "--search", "trials": "--trials"}


def words_of(settings: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the words behind ``instil`` that mean the same settings.

    Returns:
        The words, and the settings that no option can express: an empty value in place of a default.

    Example:
        >>> words_of({"model": {"name": "demo"}, "optimizer": {"lr": "1e-4", "clip": None}})
        (['train', '--model=demo', '--optimizer.lr=1e-4'], ['optimizer.clip'])
    """
    words, left = ["train"], []
    flat = flat_settings(settings)
    for name, value in flat.items():
        option = _option(name)
        if name == "sweep":
            continue
        found = _words(name, option, value)
        if found is None:
            left.append(name)
        else:
            words += found
    sweep = sweep_in(flat)
    values = {name: value for name, value in sweep.items() if name not in _SWEEP_OPTIONS}
    words += [f"--sweep={json.dumps(values, ensure_ascii=False)}"] if values else []
    words += [f"{_SWEEP_OPTIONS[name]}={value}" for name, value in sweep.items() if name in _SWEEP_OPTIONS]
    return words, left


def command_of(settings: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the command as a terminal takes it, and the settings that it cannot express."""
    words, left = words_of(settings)
    return shlex.join(["instil", *words]), left


def _option(name: str) -> str:
    group, dot, last = name.partition(".")
    if dot and SHORT_FORMS.get(group) == last and group != "optimizer":
        return f"--{group}"
    return f"--{name.replace('_', '-')}"


def _words(name: str, option: str, value: Any) -> list[str] | None:
    field = fields().get(name)
    if value is None:
        return [] if field is not None and not field.default else None
    if isinstance(value, bool):
        return [f"{option}={'true' if value else 'false'}"]
    if isinstance(value, Mapping):
        found = [f"{option}.{key}={_value(inner)}" for key, inner in value.items() if _is_simple(inner)]
        return found if len(found) == len(value) else None
    if field is not None and field.kind == "sources":
        sources = as_sources(value)
        if not sources:
            return None
        if all(isinstance(source, str) and not source.startswith("[") for source in sources):
            return (
                [f"{option}={source}" for source in sources]
                if len(sources) == 1
                else [f"{option}={json.dumps(sources, ensure_ascii=False)}"]
            )
        return [f"{option}={json.dumps(sources, ensure_ascii=False)}"]
    if isinstance(value, list):
        if name == "optimizer.betas":
            return [f"{option}={json.dumps(value)}"]
        return [f"{option}={json.dumps(value, ensure_ascii=False)}"]
    return [f"{option}={value}"]


def _is_simple(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def _value(value: Any) -> str:
    return "true" if value is True else "false" if value is False else str(value)
