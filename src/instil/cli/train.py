"""``instil train``: train with a recipe and write a run folder."""

from __future__ import annotations

import sys
from pathlib import Path

from instil.cli.settings import Overrides, load_recipe, typed
from instil.training.processes.signals import stop_on_signals


def train(recipe: Path, *, resume: bool = False, settings: Overrides = None) -> None:
    """Train with the settings of a recipe and write a run folder.

    Every setting of the recipe is an option, which replaces the file's: --optimizer.lr 1e-4 --data.sources rows.jsonl.
    The defaults below apply to settings that neither sets.

    Args:
        recipe: The recipe, a YAML file.
        resume: Continue the run in the recipe's output folder, or start it where there is none.
        settings: Settings that replace the recipe's.
    """
    with stop_on_signals():  # before the imports, because torch takes seconds to import
        from instil.training.processes.join import is_joined
        from instil.training.run import train as start

        run = start(load_recipe(recipe, typed(settings)), resume=resume)
    if run.signal is not None and not is_joined():
        sys.exit(128 + run.signal)
