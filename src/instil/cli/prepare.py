"""``instil prepare``: encode a recipe's data into its store, ahead of training."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Annotated

from cyclopts import Parameter

from instil.cli.settings import Overrides, RecipeOrData, load_recipe, typed


def prepare(
    recipe: RecipeOrData = None,
    *,
    workers: int | None = None,
    refresh: bool = False,
    as_json: Annotated[bool, Parameter(name="json")] = False,
    settings: Overrides = None,
) -> None:
    """Encode data into its store, ahead of training; training then opens it.

    Prints the detected format of each file, the ledger and the store's folder. A second run opens the existing store.

    Args:
        recipe: A recipe or data, as for train.
        workers: Processes, instead of the recipe's `data.workers`; 0 means one for each core. The result is the same.
        refresh: Write the store again even if it exists.
        as_json: Print the ledger as JSON instead of text.
        settings: Settings that replace the recipe's.
    """
    from instil.api.preparing import prepare_recipe
    from instil.run_warning import PREFIX, print_line

    started = time.monotonic()
    prepared, warnings = prepare_recipe(
        load_recipe(recipe, typed(settings)), workers=workers, refresh=refresh, on_progress=_progress()
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
    print("\n".join(prepared.lines()))
    for warning in warnings:
        print_line(f"{PREFIX:<16} {warning.text}")
    if sys.stderr.isatty():
        print(file=sys.stderr)
    how = "was there already" if prepared.reused else f"made in {seconds:.1f} s"
    print(f"store            {prepared.folder} ({how})")


def _progress() -> Callable[[int], None] | None:
    """Return a function that counts rows on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        return None

    def show(rows: int) -> None:
        print(f"\r{rows:,} rows", end="", file=sys.stderr, flush=True)

    return show
