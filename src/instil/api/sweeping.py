"""`instil.sweep`: several runs that differ in a few settings, and their comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from instil.api.arguments import check_type
from instil.api.recipes import AnyRecipe, recipe_of
from instil.errors import RecipeError
from instil.recipe import nested_settings
from instil.sweeps.space import plain_kinds, setting_type

if TYPE_CHECKING:
    from instil.sweeps.record import Sweep


def sweep(
    recipe: AnyRecipe = None,
    over: Mapping[str, Any] | None = None,
    *,
    data: Any = None,
    best_by: str | None = None,
    direction: Literal["min", "max"] | None = None,
    search: Literal["optuna"] | None = None,
    trials: int | None = None,
    resume: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Sweep:
    """Train one run for each combination of values, one after the other, and compare them.

    Every run gives the bits that `instil.train` gives with its settings. A run that fails is recorded, and the others
    go on.

    Args:
        recipe: As for `instil.train`. Its ``sweep:`` is what varies, if it has one.
        over: Settings and their values: ``{"optimizer.lr": [1e-4, 3e-4]}``, or a range to search:
            ``{"optimizer.lr": "1e-5..1e-3"}`` or ``{"low": 1e-5, "high": 1e-3, "log": True}``. It adds to the recipe's.
        data: As for `instil.train`.
        best_by: What the runs are compared by: ``heldout_loss``, ``loss``, ``heldout_accuracy`` (of preferences), a task
            such as ``numeric``, or a figure of one such as ``behaviour.no_repeats``. A task is measured in every run.
        direction: Whether less or more of that is better. Default: ``min`` for losses, ``max`` for tasks.
        search: ``optuna`` proposes the values from the results so far, instead of trying all combinations.
        trials: Number of runs of a search.
        resume: Continue the sweep in the recipe's output folder. Failed runs are tried again, unless they diverged.
        quiet: Print only the comparison and errors.
        **settings: As for `instil.train`. A list where one value is expected adds to `over`.

    Returns:
        The sweep: `runs`, `best`, and `table` with a record for each run. It is not `finished` if Ctrl-C stopped it.

    Raises:
        InstilError: If the sweep, or settings, data, template or model of a run are wrong. Nothing has been written then.
        RunError: If the folder exists and `resume` is false, or is another sweep's.
        MissingPackageError: If a search is set and Optuna is not installed.

    Example:
        >>> rows = [{"question": f"{n}+1?", "answer": str(n + 1)} for n in range(40)]
        >>> done = sweep("recipe.yaml", {"optimizer.lr": [1e-4, 3e-4]}, data=rows)  # doctest: +SKIP
        >>> done.best.settings  # doctest: +SKIP
        {'optimizer.lr': 0.0003}
    """
    for name, value in (("resume", resume), ("quiet", quiet)):
        check_type(name, value, bool, RecipeError, expected="True or False")
    check_type("trials", trials, int, RecipeError, expected="a number of runs")
    if over is not None and not isinstance(over, Mapping):
        raise RecipeError(
            f"over: found {over!r:.80}. Expected settings and their values, such as {{'optimizer.lr': [1e-4, 3e-4]}}. "
            "Correct the argument."
        )
    options = {"best_by": best_by, "direction": direction, "search": search, "trials": trials}
    single, lists = _split(nested_settings(settings))
    varied = {**lists, **(over or {}), **{name: value for name, value in options.items() if value is not None}}
    resolved = recipe_of(recipe, data=data, settings={**single, **({"sweep": varied} if varied else {})})

    # Why: torch takes seconds to import, and a wrong recipe is reported before that.
    from instil.screen import Screen
    from instil.sweeps.shown import show_sweep

    return show_sweep(resolved, Screen(quiet=quiet), resume=resume)


def _split(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings with one value, and those with a list where one value is expected, by dotted name."""
    single: dict[str, Any] = {}
    lists: dict[str, Any] = {}
    for group, value in settings.items():
        if not isinstance(value, Mapping):
            (lists if _is_list_for_one(group, value) else single)[group] = value
            continue
        lists |= {
            f"{group}.{name}": inner for name, inner in value.items() if _is_list_for_one(f"{group}.{name}", inner)
        }
        single[group] = {name: inner for name, inner in value.items() if f"{group}.{name}" not in lists}
    return single, lists


def _is_list_for_one(name: str, value: Any) -> bool:
    kind = setting_type(name)
    return isinstance(value, list | tuple) and kind is not None and not plain_kinds(kind) & {list, tuple, dict}
