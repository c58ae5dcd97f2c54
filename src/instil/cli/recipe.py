"""``instil recipe``: list and show the recipes that ship, and write one for a model and data."""

from __future__ import annotations

from cyclopts import App

app = App(
    name="recipe",
    help="List and show the recipes that ship, or write one for your model and data.",
    help_format="plaintext",
)


@app.command(name="list")
def list_recipes() -> None:
    """List the recipes that ship in the package: instil train NAME --data rows.jsonl."""
    from instil.recipe.shipped import shipped_names, summary_of

    names = shipped_names()
    width = max(map(len, names)) + 2
    for name in names:
        print(f"{name:<{width}}{summary_of(name)}")


@app.command(name="show")
def show_recipe(recipe: str, /) -> None:
    """Print a recipe that ships. `instil recipe show NAME > mine.yaml` makes a copy to change.

    Args:
        recipe: Its name, from `instil recipe list`.
    """
    from instil.errors import RecipeError, nearest
    from instil.recipe.shipped import FOLDER, shipped_names

    names = shipped_names()
    if recipe not in names:
        raise RecipeError(
            f"{recipe}: no recipe that ships has this name{nearest(recipe, names)}. "
            f"Expected one of {', '.join(names)}. Choose one of them."
        )
    print((FOLDER / f"{recipe}.yaml").read_text(encoding="utf-8"), end="")
