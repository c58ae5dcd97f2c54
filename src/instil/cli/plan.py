"""``instil plan``: show what a recipe would do."""

from __future__ import annotations

from instil.cli.settings import Overrides, RecipeOrData, load_recipe, typed


def plan(recipe: RecipeOrData = None, *, settings: Overrides = None) -> None:
    """Show what a recipe would do: parameters, memory by kind, steps, tokens, time.

    Loads no weights and trains nothing. Prepares the data as train does; train then uses the prepared data. Every
    setting of the recipe is an option, as for train.

    Args:
        recipe: A recipe or data, as for train.
        settings: Settings that replace the recipe's.
    """
    from instil.run_warning import print_line
    from instil.training.run_plan import plan_run

    made = plan_run(load_recipe(recipe, typed(settings)), say=print)
    print()
    for line in made.lines():
        print_line(line)
