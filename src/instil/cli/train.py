"""``instil train``: a recipe in, a run folder out."""

from __future__ import annotations

import sys
from pathlib import Path

from instil.cli.settings import Overrides, typed
from instil.training.processes.signals import stop_on_signals


def train(recipe: Path, *, resume: bool = False, settings: Overrides = None) -> None:
    """Train what a recipe says; writes a run folder.

    Every setting of the recipe is an option, which wins over the file's: --optimizer.lr 1e-4 --data.sources rows.jsonl. The defaults
    below are those of settings that neither names.

    Args:
        recipe: The recipe, a YAML file.
        resume: Go on with the run in the recipe's output folder; where there is none, start it.
        settings: Settings that win over the recipe's.
    """
    with stop_on_signals():  # torch takes seconds to import
        from instil.recipe import Recipe
        from instil.training.processes.join import is_joined
        from instil.training.run import train as start

        run = start(Recipe.load(recipe, typed(settings)), resume=resume)
    if run.signal is not None and not is_joined():
        sys.exit(128 + run.signal)
