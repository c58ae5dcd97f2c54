"""The options of ``train`` and ``plan`` that concern a sweep, and the sweep that they make of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from cyclopts import Parameter

from instil.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOptions:
    """How the runs of a sweep are chosen and compared.

    Attributes:
        best_by: What the runs of a sweep are compared by: heldout_loss, loss, heldout_accuracy (of preferences), a task
            such as numeric, or a figure of one such as behaviour.no_repeats. A task is measured in every run. Default:
            heldout_loss.
        direction: Whether less or more of that is better. Default: min for losses, max for tasks.
        search: Search the values instead of trying all combinations, and allow ranges such as 1e-5..1e-3. Needs the
            extra `search`.
        trials: Number of runs of a search.
    """

    best_by: str | None = None
    direction: Literal["min", "max"] | None = None
    search: Literal["optuna"] | None = None
    trials: int | None = None


Sweeping: TypeAlias = Annotated[SweepOptions, Parameter(name="*")]
NO_SWEEP = SweepOptions()


def with_options(overrides: Mapping[str, Any], options: SweepOptions) -> dict[str, Any]:
    """Return typed settings with the typed options in their ``sweep``."""
    typed = {name: value for name, value in asdict(options).items() if value is not None}
    return {**overrides, "sweep": {**overrides.get("sweep", {}), **typed}} if typed else dict(overrides)


def continued(recipe: Recipe) -> Recipe:
    """Return a recipe with the sweep of its folder, if it names none and the folder holds one: it is continued."""
    from instil.sweeps.record import SweepPaths, is_sweep

    folder = Path(recipe.output)
    if recipe.sweep or not is_sweep(folder):
        return recipe
    return recipe.override({"sweep": Recipe.load(SweepPaths(folder).recipe).sweep})


def run_sweep(recipe: Recipe, *, resume: bool, quiet: bool = False) -> int:
    """Run a sweep on the screen. Return the exit status: 0, 1 if a run failed, 128 and the signal that stopped it."""
    from instil.screen import Screen
    from instil.sweeps.shown import show_sweep

    sweep = show_sweep(recipe, Screen(quiet=quiet), resume=resume)
    return 128 + sweep.signal if sweep.signal is not None else int(bool(sweep.failed))
