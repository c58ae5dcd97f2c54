"""Short names for the runs of a sweep, and short texts for the values of settings."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LONGEST = 80
"""Largest number of characters of a run's name."""
_SAYS_NOTHING = frozenset({"name", "kind"})
"""Last names of settings that say less than their group."""


def short_number(value: float) -> str:
    """Return a number as people write it: rates with an exponent, others without.

    Example:
        >>> [short_number(value) for value in (0.0003, 2.5e-5, 0.05, 16.0, 120000, 0.0)]
        ['3e-4', '2.5e-5', '0.05', '16', '120000', '0']
    """
    if value == 0 or 1e-2 <= abs(value) < 1e7:
        return f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    mantissa, _, exponent = f"{value:.6e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def shown_value(value: Any) -> str:
    """Return the value of a setting as short text.

    Example:
        >>> [shown_value(value) for value in (1e-4, True, None, ["q_proj", "v_proj"], "Qwen/Qwen3-0.6B")]
        ['1e-4', 'true', 'none', 'q_proj+v_proj', 'Qwen/Qwen3-0.6B']
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return short_number(value)
    if isinstance(value, list | tuple):
        return "+".join(shown_value(part) for part in value) or "none"
    if isinstance(value, Mapping):
        return str(value["path"]) if "path" in value else json.dumps(dict(value), default=str)
    return str(value)


def setting_names(settings: Iterable[str]) -> dict[str, str]:
    """Return a short name for each setting: its last name, with its group where that says too little or occurs twice.

    Example:
        >>> setting_names(["optimizer.lr", "adapter.rank", "optimizer.name"])
        {'optimizer.lr': 'lr', 'adapter.rank': 'rank', 'optimizer.name': 'optimizer'}
    """
    dotted = list(settings)
    last = [name.rpartition(".")[2] for name in dotted]
    short = {}
    for name, own in zip(dotted, last, strict=True):
        group = name.rpartition(".")[0]
        if own in _SAYS_NOTHING and group:
            short[name] = group
        else:
            short[name] = own if last.count(own) == 1 else name.replace(".", "-")
    if len(set(short.values())) < len(short):
        return {name: name.replace(".", "-") for name in dotted}
    return short


def run_names(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a name for each run from the settings that vary; different for different runs.

    Example:
        >>> run_names([{"optimizer.lr": 1e-4, "adapter.rank": 8}, {"optimizer.lr": 3e-4, "adapter.rank": 8}])
        ['lr-1e-4-rank-8', 'lr-3e-4-rank-8']
    """
    names: list[str] = []
    for values in settings:
        name = run_name(values)
        number = 2
        while name.casefold() in {taken.casefold() for taken in names}:
            name, number = f"{run_name(values)}-{number}", number + 1
        names.append(name)
    return names


def run_name(settings: Mapping[str, Any], *, number: int | None = None) -> str:
    """Return the name of one run.

    Args:
        settings: Its values of the settings that vary.
        number: Number of a trial, which then begins the name; its values are rounded to two digits.

    Example:
        >>> run_name({"optimizer.lr": 0.000347281}, number=7)
        '007-lr-3.5e-4'
    """
    short = setting_names(settings)
    parts = [] if number is None else [f"{number:03}"]
    for name, value in settings.items():
        if number is not None and isinstance(value, float):
            value = float(f"{value:.1e}")
        parts += [short[name], _slug(shown_value(value))]
    name = "-".join(part for part in parts if part)
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 9]}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _slug(text: str) -> str:
    """Return a text as part of a folder's name; of a path, its last part without the end of a file."""
    last = text.rstrip("/").rpartition("/")[2]
    last = re.sub(r"\.(jsonl?|csv|parquet|txt|jinja|yaml)(\.\w+)?$", "", last)
    return re.sub(r"[^\w.+-]+", "-", last).strip("-.") or "empty"
