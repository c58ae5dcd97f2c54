"""What a draft begins with: a recipe that ships, a former run's, a file of the workspace, data, or a command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instil.errors import RecipeError
from instil.recipe import Recipe, Source
from instil.recipe.shipped import FOLDER
from instil.recipe.yaml_file import read_recipe_text
from instil.studio.drafts.store import NAME
from instil.studio.drafts.text import REMOVED, edited, flat_settings, settings_in
from instil.studio.workspace import free_path
from instil.training.records.run_folder import RunPaths

LARGEST_BYTES = 1_000_000
"""A recipe is never larger; other YAML may be."""
_KEPT = frozenset({"training.epochs"})
"""Settings of a run that stay even if they are the default: left out, they would depend on the objective."""
_OF_THE_RUN = frozenset({"output", "data.store"})
"""Settings of a run that another run must not have."""


def shipped_text(name: str) -> str:
    """Return the text of a recipe that ships."""
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def text_of_file(path: Path) -> str:
    """Return the text of a recipe file.

    Raises:
        RecipeError: If it cannot be read as text, or is too large to be one.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise RecipeError(
                f"{path.name}: is too large for a recipe. Expected a YAML file of settings. Choose another."
            )
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"{path.name}: cannot be read ({error}). Expected a YAML file in UTF-8. Choose another."
        ) from None


def text_of_run(folder: Path) -> str:
    """Return the settings of a run that are not the defaults; its folder and its prepared data are its own.

    Raises:
        RecipeError: If the run has no recipe that can be read.
    """
    settings = flat_settings(settings_in(text_of_file(RunPaths(folder).recipe)))
    defaults = flat_settings(Recipe().model_dump(mode="json"))
    kept = {
        name: _smaller(name, value)
        for name, value in settings.items()
        if name not in _OF_THE_RUN and (name in _KEPT or name not in defaults or defaults[name] != value)
    }
    return edited("", kept).text


def _smaller(name: str, value: Any) -> Any:
    """Return sources with what is not their default."""
    if name not in ("data.sources", "data.heldout") or not isinstance(value, list):
        return value
    defaults = Source(path="x").model_dump(mode="json")
    sources: list[Any] = []
    for source in value:
        if isinstance(source, Mapping):
            source = {key: inner for key, inner in source.items() if key == "path" or defaults.get(key) != inner}
            source = source["path"] if list(source) == ["path"] else source
        sources.append(source)
    return sources


def text_of_data(path: str, *, columns: str = "", form: str = "", settings: Mapping[str, str] | None = None) -> str:
    """Return a recipe for data.

    Args:
        path: The data, below the workspace, or a Hub id.
        columns: A mapping of roles to texts with columns, as JSON or YAML; or empty.
        form: The format of the rows; or empty.
        settings: Further settings by name; those without a value are left out.

    Raises:
        RecipeError: If the columns are no mapping.

    Example:
        >>> print(text_of_data("rows.csv", columns='{"user": "{q}", "assistant": "{a}"}'), end="")
        data:
          sources:
          - path: rows.csv
            format: pattern
            columns:
              user: '{q}'
              assistant: '{a}'
    """
    source: Any = {"path": path}
    if form:
        source["format"] = form
    if columns:
        source |= {"format": form or "pattern", "columns": read_recipe_text(columns, source="columns")}
    others = {name: value for name, value in (settings or {}).items() if value}
    return edited("", {**others, "data.sources": [path if list(source) == ["path"] else source]}).text


def text_of_meaning(meaning: Mapping[str, Any], text: str) -> str:
    """Return a text with what a command line adds to it.

    Args:
        meaning: What `instil.cli.worker` says that it means.
        text: The recipe that the command starts from, or an empty text.
    """
    changes = flat_settings(meaning["settings"])
    if meaning["data"] is not None:
        changes["data.sources"] = [meaning["data"]]
    sweep = {**settings_in(text).get("sweep", {}), **changes.pop("sweep", {})}
    changes = {name: _smaller(name, value) for name, value in changes.items()}
    sweep = {name: value for name, value in sweep.items() if name not in changes}
    return edited(text, {**changes, "sweep": sweep or REMOVED}).text


def name_from(text: str) -> str:
    """Return a name of a run that needs no quotes, from any text.

    Example:
        >>> name_from("data/my rows.jsonl"), name_from("…")
        ('my-rows', 'run')
    """
    stem = Path(text).name.partition(".")[0]
    name = "".join(letter if letter.isalnum() or letter in "_-" else "-" for letter in stem).strip("-")[:60]
    return name if NAME.fullmatch(name) else "run"


def free_name(name: str, root: Path) -> str:
    """Return a name that no run has: ``rows``, else ``rows-2`` and so on."""
    return free_path(root, f"runs/{name}").removeprefix("runs/")
