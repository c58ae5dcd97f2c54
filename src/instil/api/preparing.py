"""`instil.prepare`: encode data into its store, ahead of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from instil.api.arguments import check_type
from instil.api.recipes import AnyRecipe, recipe_of
from instil.errors import RecipeError
from instil.model.folder.location import locate
from instil.preparation.chat_setup import set_up_chat, with_date, with_max_tokens
from instil.preparation.prepare import Prepared
from instil.preparation.prepare import prepare as make_store
from instil.recipe import Recipe
from instil.run_warning import RunWarning
from instil.screen import work


def prepare(
    recipe: AnyRecipe = None,
    *,
    data: Any = None,
    workers: int | None = None,
    refresh: bool = False,
    **settings: Any,
) -> Prepared:
    """Encode a recipe's data into its store, or open the store that is there.

    Args:
        recipe: As for `instil.train`.
        data: As for `instil.train`.
        workers: Processes, instead of the recipe's; 0 means one for each core. The result is the same.
        refresh: Make the store again even if it exists.
        **settings: As for `instil.train`.

    Returns:
        The store: its `ledger` and `heldout_ledger`, `train` and `heldout` examples, `folder`, and whether it was
        `reused`.

    Raises:
        InstilError: If settings, data, template or model are wrong.

    Example:
        >>> rows = [{"question": f"{n}+1?", "answer": str(n + 1)} for n in range(40)]
        >>> prepare(data=rows, **{"data.heldout_share": 0}).ledger.rows_in
        40
    """
    check_type("workers", workers, int, RecipeError, expected="a number of processes")
    check_type("refresh", refresh, bool, RecipeError, expected="True or False")
    return prepare_recipe(
        recipe_of(recipe, data=data, settings=settings, needs_data=True), workers=workers, refresh=refresh
    )[0]


def prepare_recipe(
    recipe: Recipe, *, workers: int | None, refresh: bool, say: Callable[[str], None] | None = None
) -> tuple[Prepared, list[RunWarning]]:
    """Load the tokenizer, and make the store or open the existing one; return the warnings too.

    Args:
        recipe: The recipe.
        workers: As for `prepare`.
        refresh: As for `prepare`.
        say: Prints a line about a cluster; None prints nothing.
    """
    location = locate(recipe.model.name, recipe.model.revision, trust_remote_code=recipe.model.trust_remote_code)
    sweep = _sweep_warnings(recipe)  # what is resolved below would count as set instead
    with work("reading configuration and tokenizer"):
        recipe = with_max_tokens(recipe, location)
        setup = set_up_chat(recipe, location)
        recipe = with_date(recipe, setup.chat)
    prepared = make_store(recipe, setup.chat, workers=workers, refresh=refresh, say=say)
    return prepared, [*setup.warnings, *prepared.warnings(recipe.data), *sweep]


def _sweep_warnings(recipe: Recipe) -> list[RunWarning]:
    """Return a warning if runs of the recipe's sweep use other data than what was prepared."""
    swept = [name for name in recipe.sweep if name.startswith(("data.", "model.")) or name == "training.seed"]
    if not swept:
        return []
    text = f"the recipe sweeps {', '.join(swept)}, and this is the data without that. `instil plan` prepares all of it"
    return [RunWarning("sweep", text, len(swept))]
