"""``instil prepare``: encode a recipe's data into its store, ahead of training."""

from __future__ import annotations

import json
import time
from typing import Annotated

from cyclopts import Parameter

from instil.cli.settings import Overrides, RecipeOrData, load_recipe, typed

NAME_WIDTH = 16
"""Columns of the names, as in the ledger."""


def prepare(
    recipe: RecipeOrData = None,
    *,
    workers: int | None = None,
    refresh: bool = False,
    as_json: Annotated[bool, Parameter(name="json")] = False,
    quiet: bool = False,
    settings: Overrides = None,
) -> None:
    """Encode data into its store, ahead of training; training then opens it.

    Prints the detected format of each file, the ledger and the store's folder. A second run opens the existing store.

    Args:
        recipe: A recipe or data, as for train.
        workers: Processes, instead of the recipe's `data.workers`; 0 means one for each core. The result is the same.
        refresh: Write the store again even if it exists.
        as_json: Print the ledger as JSON instead of text.
        quiet: Print warnings and the store only, and no bar.
        settings: Settings that replace the recipe's.
    """
    from instil.api.preparing import prepare_recipe
    from instil.run_warning import PREFIX
    from instil.screen import Heading, Screen, under_heading
    from instil.units import duration

    started = time.monotonic()
    chosen = load_recipe(recipe, typed(settings))
    screen = Screen(quiet=quiet)
    prepared, warnings = prepare_recipe(
        chosen, workers=workers, refresh=refresh, say=None if as_json or quiet else screen.say
    )
    seconds = time.monotonic() - started
    if as_json:
        shown = {
            "folder": str(prepared.folder),
            **prepared.to_json(),
            "warnings": [warning.to_json() for warning in warnings],
        }
        print(json.dumps(shown, indent=1))
        return
    say = under_heading("Rows", screen.say)
    for line in prepared.lines():
        say(line)
    how = "was there already" if prepared.reused else f"written, {duration(seconds)} with loading the tokenizer"
    warned = [(PREFIX, warning.text) for warning in warnings]
    screen.say(Heading("Store"))
    screen.facts([*warned, ("store", f"{prepared.folder} ({how})")], width=NAME_WIDTH)
    screen.hint(f"{'next':<{NAME_WIDTH}} instil train with the same settings opens this store")
