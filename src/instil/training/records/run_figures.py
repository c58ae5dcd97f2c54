"""What `instil evaluate` measured of a run, read from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instil.errors import RunError
from instil.training.records.run_folder import read_run_json


@dataclass(frozen=True, slots=True)
class Figure:
    """An evaluation's figure with its 95% interval and the number of cases."""

    value: float
    low: float
    high: float
    n: int


def figures_of(folder: Path) -> dict[str, Figure]:
    """Read the results of `instil evaluate` in a run folder.

    Raises:
        RunError: If it is damaged.
    """
    path = folder / "evaluation" / "evaluation.json"
    evaluation = read_run_json(path)
    try:
        tasks = evaluation.get("model", {}).get("figures", {}).items()
        return figures_from({f"{task}.{name}": figure for task, figures in tasks for name, figure in figures.items()})
    except (AttributeError, KeyError, TypeError):
        raise RunError(
            f"{path}: damaged. Expected figures with value, low, high and n. Run `instil evaluate` again, or remove it."
        ) from None


def figures_from(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Figure]:
    """Return figures from JSON values, without those that have no value."""
    return {
        name: Figure(figure["value"], figure["low"], figure["high"], figure["n"])
        for name, figure in values.items()
        if figure["value"] is not None
    }
