"""``instil train``: train on data, with or without a recipe, and write a run folder."""

from __future__ import annotations

import os
import sys

from instil.cli.settings import Overrides, RecipeOrData, load_recipe, typed
from instil.cli.sweep_options import NO_SWEEP, Sweeping, continued, run_sweep, with_options
from instil.recipe import Recipe
from instil.training.processes.signals import stop_on_signals


def train(
    recipe: RecipeOrData = None,
    *,
    resume: bool = False,
    save_recipe: str | None = None,
    quiet: bool = False,
    sweeping: Sweeping = NO_SWEEP,
    settings: Overrides = None,
) -> None:
    """Train on data and write a run folder: instil train rows.jsonl --model MODEL --adapter lora.

    Every setting of a recipe is an option, which replaces the file's: --optimizer.lr 1e-4 --data.max-tokens 512. Short
    forms: --model is --model.name, --data is --data.sources, --adapter is --adapter.kind. Several values make a run of
    each: --optimizer.lr 1e-4,3e-4,1e-3. The defaults below apply to settings that nobody sets.

    Args:
        recipe: Data (a file, folder, glob, `-` or Hub id), a recipe (a YAML file), or the name of a recipe that ships
            (`instil recipe list`).
        resume: Continue the run in the output folder, or start it where there is none.
        save_recipe: Also write the settings of this command into this file, as a recipe with comments.
        quiet: Print nothing but errors: no run card, no bar, no result.
        sweeping: How the runs of a sweep are chosen and compared.
        settings: Settings that replace the recipe's.
    """
    with stop_on_signals():  # before the imports, because torch takes seconds to import
        chosen = load_recipe(recipe, with_options(typed(settings), sweeping), needs_data=not resume)
        chosen = continued(chosen) if resume else chosen
        if save_recipe is not None:
            write_recipe(chosen, save_recipe)
        from instil.training.processes.join import is_joined
        from instil.training.run import train as start

        if chosen.sweep:
            sys.exit(run_sweep(chosen, resume=resume, quiet=quiet))
        run = start(chosen, resume=resume, quiet=quiet)
    if run.signal is not None and not is_joined():
        sys.exit(128 + run.signal)


def write_recipe(recipe: Recipe, path: str) -> None:
    """Write the settings of a command as a recipe; of several processes the first one does."""
    from instil.recipe.commented import commented_yaml, descriptions, settings_that_were_set, write_recipe_file

    if os.environ.get("RANK", "0") != "0":
        return
    head = [
        f"Start it with: instil train {path}",
        "All other settings have their defaults; see docs/reference/settings.md.",
    ]
    write_recipe_file(path, commented_yaml(settings_that_were_set(recipe), descriptions(), head=head))
    print(f"recipe           {path}")
