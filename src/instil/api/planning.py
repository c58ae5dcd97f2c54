"""`instil.plan`: what a recipe would do, without training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from instil.api.arguments import check_type
from instil.api.recipes import AnyRecipe, recipe_of
from instil.errors import RecipeError
from instil.screen import say_nothing

if TYPE_CHECKING:
    from instil.sweeps.plan import SweepPlan
    from instil.training.run_plan import RunPlan


def plan(recipe: AnyRecipe = None, *, data: Any = None, quiet: bool = True, **settings: Any) -> RunPlan | SweepPlan:
    """Return what a recipe would do: steps, tokens, time, memory by kind, disk, warnings.

    No weight is loaded. The data is prepared, and training uses it as it is then. Of a recipe with a ``sweep:`` it is
    a `SweepPlan`: a plan for each run in `runs`, and sums of time and disk.

    Args:
        recipe: As for `instil.train`.
        data: As for `instil.train`.
        quiet: Whether not to print the data's ledger.
        **settings: As for `instil.train`.

    Raises:
        InstilError: If settings, data, template or model are wrong.

    Example:
        >>> rows = [{"question": f"{n}+1?", "answer": str(n + 1)} for n in range(40)]
        >>> plan(data=rows, **{"training.max_steps": 5}).steps  # doctest: +SKIP
        5
    """
    check_type("quiet", quiet, bool, RecipeError, expected="True or False")
    resolved = recipe_of(recipe, data=data, settings=settings, needs_data=True)
    # Why: torch takes seconds to import, and a wrong recipe is reported before that.
    if resolved.sweep:
        from instil.sweeps.plan import plan_sweep

        return plan_sweep(resolved, say=say_nothing if quiet else print)
    from instil.training.run_plan import plan_run

    return plan_run(resolved, say=say_nothing if quiet else print)
