"""The group ``sweep:`` of a recipe: which settings take several values, one run for each.

Here its keys get one spelling, and a typed value replaces a swept one. `instil.sweeps.space` reads the values.

Why: the group is a mapping and not a group of settings, because its keys are the names of all settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instil.recipe.merging import SHORT_FORMS

RANGE_KEYS = frozenset({"low", "high", "log"})
"""Keys of a range."""


def flat_sweep(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sweep with dotted names, from one whose settings may be nested in their groups.

    Example:
        >>> flat_sweep({"optimizer": {"lr": [1e-4, 3e-4]}, "adapter.rank": {"low": 4, "high": 64}})
        {'optimizer.lr': [0.0001, 0.0003], 'adapter.rank': {'low': 4, 'high': 64}}
        >>> flat_sweep({"model": ["demo", "owner/model"], "adapter": ["lora", "none"]})
        {'model.name': ['demo', 'owner/model'], 'adapter.kind': ['lora', 'none']}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value and not value.keys() <= RANGE_KEYS and "." not in str(key):
            flat |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            flat[f"{key}.{SHORT_FORMS[key]}" if key in SHORT_FORMS else key] = value
    return flat


def with_sweep(under: Any, over: Mapping[str, Any]) -> Any:
    """Return the sweep of a recipe file under overrides: a swept setting in them is new, a single value ends the old.

    Args:
        under: The file's ``sweep:``. What is no mapping is returned as it is, for the recipe's checks.
        over: The overrides, nested.

    Example:
        >>> with_sweep({"optimizer.lr": [1, 2], "adapter.rank": [8, 16]}, {"optimizer": {"lr": 1}})
        {'adapter.rank': [8, 16]}
    """
    if under is not None and not isinstance(under, Mapping):
        return under
    typed = {
        f"{group}.{name}" if isinstance(inner, Mapping) else group
        for group, inner in over.items()
        if group != "sweep"
        for name in (inner if isinstance(inner, Mapping) else [group])
    }
    kept = {key: value for key, value in flat_sweep(under or {}).items() if key not in typed}
    new = over.get("sweep")
    return {**kept, **flat_sweep(new)} if isinstance(new, Mapping) else kept if new is None else new
