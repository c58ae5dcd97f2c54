"""Tell what a word means that stands after a verb: a recipe, or data to train on.

A recipe is a .yaml or .yml file, or the name of a recipe that ships in the package. Everything else is data.
"""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path

from instil.data.sources.files import container_of
from instil.data.sources.rows import is_hub_id
from instil.errors import RecipeError, nearest
from instil.files import home_path, nearest_beside
from instil.recipe.shipped import recipe_file, shipped_names
from instil.remote.urls import clean_url, is_url

_MODEL_FILES = ("config.json", "adapter_config.json")
DEMO = "demo"
"""The name of the embedded base model."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a word names; one of the two is None.

    Attributes:
        recipe: The file of a recipe.
        data: A file, folder, glob, ``-`` or Hub id.
    """

    recipe: Path | None = None
    data: str | None = None


def subject_of(word: str | Path) -> Subject:
    """Return what a word names.

    Raises:
        RecipeError: If it is neither a recipe nor data, or names a run or a model.

    Example:
        >>> subject_of("openai/gsm8k").data, subject_of("full").recipe.name
        ('openai/gsm8k', 'full.yaml')
    """
    if (recipe := recipe_file(word)) is not None:
        return Subject(recipe=recipe)
    name = os.fspath(word)
    if is_url(name):
        return Subject(data=clean_url(name))
    path = home_path(name)
    if path.is_dir():
        _refuse_run_or_model(name, path)
    elif name == DEMO:
        raise RecipeError(f"{name}: is a model. Expected data or a recipe. Write --model {name} --data rows.jsonl.")
    if name == "-" or path.exists() or glob.has_magic(name) or container_of(name) or is_hub_id(name):
        return Subject(data=name)
    raise RecipeError(
        f"{name}: neither a recipe nor data{nearest(name, shipped_names()) or nearest_beside(path)}. Tried: a file or "
        f"folder, a recipe that ships ({', '.join(shipped_names())}), and a Hub id (owner/name). "
        "Expected data such as rows.jsonl, or a recipe. Check the name."
    )


def run_name(source: str) -> str:
    """Return the name of a run on data, for ``runs/NAME``.

    Example:
        >>> run_name("data/rows.jsonl.gz"), run_name("openai/gsm8k"), run_name("data/*.csv"), run_name("-")
        ('rows', 'gsm8k', 'data', 'stdin')
        >>> run_name("s3://bucket/data/rows.jsonl.gz"), run_name("https://example.com/rows.csv?download=true")
        ('rows', 'rows')
    """
    if source == "-":
        return "stdin"
    if is_url(source):
        source = clean_url(source).partition("://")[2].partition("?")[0]
    parts = [part for part in Path(source).parts if not glob.has_magic(part)]
    name = parts[-1] if parts else "data"
    if container_of(name):
        name = re.sub(r"(\.\w+){1,2}$", "", name) if container_of(Path(name).stem) else Path(name).stem
    name = re.sub(r"[^\w.-]+", "-", home_path(name).name if name in (".", "..") else name).strip("-.")
    return name or "data"


def _refuse_run_or_model(name: str, folder: Path) -> None:
    """Raise if a folder is a run or a model, which a user may write where data belongs."""
    if (folder / "recipe.yaml").is_file() and (folder / "checkpoints").is_dir():
        raise RecipeError(
            f"{name}: is a run folder. Expected data or a recipe. To continue that run: instil train "
            f"{folder / 'recipe.yaml'} --resume. To train its model on: --model {name} --data rows.jsonl."
        )
    if any((folder / file).is_file() for file in _MODEL_FILES):
        raise RecipeError(f"{name}: is a model. Expected data or a recipe. Write --model {name} --data rows.jsonl.")
