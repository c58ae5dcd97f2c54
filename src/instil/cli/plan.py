"""``instil plan``: show what a recipe would do."""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import Parameter

from instil.cli.settings import Overrides, RecipeOrData, load_recipe, typed
from instil.cli.sweep_options import NO_SWEEP, Sweeping, with_options


def plan(
    recipe: RecipeOrData = None,
    *,
    sweeping: Sweeping = NO_SWEEP,
    as_json: Annotated[bool, Parameter(name="json")] = False,
    quiet: bool = False,
    settings: Overrides = None,
) -> None:
    """Show what a recipe would do: parameters, memory by kind, steps, tokens, time.

    Loads no weights and trains nothing. Prepares the data as train does; train then uses the prepared data. Every
    setting of the recipe is an option, as for train.

    Args:
        recipe: A recipe or data, as for train.
        sweeping: How the runs of a sweep are chosen and compared.
        as_json: Print the plan as JSON instead of text.
        quiet: Print the plan without the account of the rows, and no bar.
        settings: Settings that replace the recipe's.
    """
    from instil.screen import Screen, say_nothing, under_heading

    screen = Screen()
    loaded = load_recipe(recipe, with_options(typed(settings), sweeping))
    if loaded.sweep:
        from instil.sweeps.plan import plan_sweep
        from instil.sweeps.shown import show_plan

        planned = plan_sweep(loaded, say=say_nothing if as_json else screen.line)
        if as_json:
            print(json.dumps(planned.to_json(), indent=1))
        else:
            show_plan(planned, screen)
        return
    from instil.training.run_plan import plan_run  # Why: torch takes seconds to import, and an error none

    made = plan_run(loaded, say=say_nothing if quiet or as_json else under_heading("Rows", screen.say))
    if as_json:
        print(json.dumps(made.to_json(), indent=1))
        return
    for title, lines in made.sections():
        screen.heading(title)
        for line in lines:
            screen.say(line)
    if not quiet:
        screen.hint(f"{'next':<12} instil train with the same settings")
