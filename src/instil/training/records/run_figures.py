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


def figure_words(figure: Figure | None, *, interval: bool = False) -> str:
    """Return a figure in words: a share in percent; with its interval and number of cases where there is room.

    Example:
        >>> figure_words(Figure(0.625, 0.47, 0.76, 40)), figure_words(Figure(31.5, 20, 40, 12), interval=True)
        ('62.5%', '31.5 [20, 40] n=12')
    """
    if figure is None:
        return ""
    is_share = all(0 <= value <= 1 for value in (figure.value, figure.low, figure.high))
    value, low, high = (f"{100 * v:.1f}%" if is_share else f"{v:.3g}" for v in (figure.value, figure.low, figure.high))
    return f"{value} [{low}, {high}] n={figure.n}" if interval else value
