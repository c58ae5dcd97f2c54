"""``instil recipe``: list and show the recipes that ship, and write one for a model and data."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Literal, cast

from cyclopts import App

app = App(
    name="recipe",
    help="List and show the recipes that ship, or write one for your model and data.",
    help_format="plaintext",
)


@app.command(name="list")
def list_recipes() -> None:
    """List the recipes that ship in the package: instil train NAME --data rows.jsonl. Then what starts one on a cluster."""
    from instil.recipe.shipped import launch_files, shipped_names, summary_of
    from instil.screen import Column, Screen

    names = [*shipped_names(), *launch_files()]
    Screen().table([Column("name"), Column("what it does")], [[name, summary_of(name)] for name in names])


@app.command(name="show")
def show_recipe(recipe: str, /) -> None:
    """Print a recipe that ships, or a file that starts one. `instil recipe show NAME > mine.yaml` makes a copy to change.

    Args:
        recipe: Its name, from `instil recipe list`.
    """
    from instil.errors import RecipeError, nearest
    from instil.recipe.shipped import FOLDER, launch_files, shipped_names

    files = {name: FOLDER / f"{name}.yaml" for name in shipped_names()} | launch_files()
    if recipe not in files:
        raise RecipeError(
            f"{recipe}: no recipe that ships has this name{nearest(recipe, files)}. "
            f"Expected one of {', '.join(files)}. Choose one of them."
        )
    print(files[recipe].read_text(encoding="utf-8"), end="")


@app.command(name="new")
def write_new_recipe(
    data: str | None = None,
    *,
    model: str | None = None,
    adapter: Literal["auto", "none", "lora"] | None = None,
    out: str | None = None,
    device: str = "auto",
) -> None:
    """Write a recipe for your model and data, each setting with the reason for it.

    On a terminal it asks for what is not given. What trains is decided by memory, the learning rate by the size of the
    model, the length by the rows, epochs and batch size by their number.

    Args:
        data: File, folder, glob or Hub id to train on.
        model: Model folder, run folder, Hub id or `demo`.
        adapter: none: train every weight. lora: train adapters. auto: decide by memory.
        out: File to write. Default: the name of the data with .yaml.
        device: Where the run is to compute: auto, cpu, cuda, cuda:1 or mps.
    """
    from instil.api.new_recipe import new_recipe
    from instil.api.subjects import run_name
    from instil.errors import RecipeError
    from instil.recipe.commented import check_new_file, write_recipe_file
    from instil.screen import Screen

    asks = sys.stdin.isatty()
    if data is None and not asks:
        raise RecipeError(
            "recipe new: found no data. Expected instil recipe new rows.jsonl --model MODEL. Name the data."
        )
    if data is None:
        data = _answer("Data (file, folder, glob or Hub id)", check=_check_data)
    if model is None:
        model = _answer("Model (folder, run, Hub id or demo)", default="demo", check=_check_model) if asks else "demo"
    if adapter is None:
        question = "What trains (none: every weight, lora, or auto: by memory)"
        adapter = cast(Any, _answer(question, default="auto", check=_check_adapter) if asks else "auto")
    if out is None:
        default = f"{run_name(data)}.yaml"
        out = _answer("File to write", default=default, check=check_new_file) if asks else default
    check_new_file(out)
    made = new_recipe(data, model=model, adapter=None if adapter == "auto" else adapter, device=device)
    text = made.text(out)
    write_recipe_file(out, text)
    screen = Screen()
    screen.line(text.rstrip("\n"))
    screen.done(f"wrote {out}. Look at the data with instil inspect {out}, start with instil train {out}.")


def _answer(question: str, *, check: Callable[[str], object], default: str = "") -> str:
    """Ask until an answer passes its check; an empty one is the default."""
    from instil.errors import InstilError

    while True:
        try:
            answer = input(f"{question}{f' [{default}]' if default else ''}: ").strip() or default
        except EOFError:
            raise KeyboardInterrupt from None
        try:
            check(answer)
        except InstilError as error:
            print(f"  {error}", file=sys.stderr)
        else:
            return answer


def _check_data(answer: str) -> None:
    """Raise if an answer names no data."""
    from instil.api.subjects import subject_of
    from instil.data.sources.files import find_files
    from instil.data.sources.rows import is_hub_id
    from instil.errors import RecipeError

    if not answer or answer == "-":
        raise RecipeError("Expected a file, folder, glob or Hub id. Name one.")
    if subject_of(answer).data is None:
        raise RecipeError(f"{answer}: is a recipe. Expected data. Name a file.")
    if not is_hub_id(answer):
        find_files(answer)


def _check_model(answer: str) -> None:
    """Raise if an answer names no model."""
    from instil.model.folder.location import locate

    locate(answer)


def _check_adapter(answer: str) -> None:
    """Raise if an answer is none of the choices."""
    from instil.errors import RecipeError

    if answer not in ("auto", "none", "lora"):
        raise RecipeError(f"found {answer!r}. Expected auto, none or lora.")
