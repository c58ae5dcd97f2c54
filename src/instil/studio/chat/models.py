"""The models that a chat can name: a run of the workspace, or the base of one.

A request names a run by its path below the workspace, checked as every path is. The base is never named by a request:
its name is read from the run's recipe.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from instil.errors import InstilError
from instil.studio.problems import PageProblem
from instil.studio.studio import Studio
from instil.studio.workspace import run_entry
from instil.training.records.run_folder import RunPaths, is_run

BASE = "base:"
"""How the name of a run's base begins; no path of a run does."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model of a chat.

    Attributes:
        name: What a chat keeps: a run's path, or that with `BASE` before it.
        run: The run's path below the workspace.
        kind: Whether it is the run itself or its base.
        argv: Words behind ``instil`` that serve it; others than before where the run was written anew.
        served_name: The name that its server knows it by.
    """

    name: str
    run: str
    kind: Literal["run", "base"]
    argv: tuple[str, ...]
    served_name: str


def read_model(studio: Studio, name: str) -> ServedModel:
    """Return the model that a chat or a request names.

    Raises:
        PageProblem: With status 404, if the path leads out of the workspace or to nothing; 422, if there is no run with a
            model, or its recipe asks for remote code.
    """
    is_base = name.startswith(BASE)
    path = name.removeprefix(BASE)
    folder = studio.whole(path)
    if not folder.is_dir() or not is_run(folder):
        raise PageProblem(422, "chat.no_run", path=path)
    run = run_entry(studio.root, folder).path
    recipe = _recipe(folder, path)
    if recipe.get("trust_remote_code"):
        raise PageProblem(422, "chat.remote_code", path=path)
    config = _config(folder)
    if config is None:
        raise PageProblem(422, "chat.no_model", path=path)
    served_name = f"{'base' if is_base else 'run'}-{config.stat().st_mtime_ns}"
    # `--name=value` and `./`: a path that begins with - is a path.
    words = [f"--model=./{run}"] if not is_base else _base_words(folder, run, recipe, path)
    return ServedModel(
        f"{BASE if is_base else ''}{run}", run, "base" if is_base else "run",
        ("serve", *words, "--port=0", f"--served-name={served_name}", "--max-new-tokens=8192"), served_name,
    )  # fmt: skip


def base_model(studio: Studio, run: str) -> str:
    """Return the base of a run, as its recipe names it.

    Raises:
        PageProblem: With status 422, if the recipe names none.
    """
    return _base_name(_recipe(studio.existing(run), run), run)


def talking_runs(studio: Studio, paths: list[str]) -> list[str]:
    """Return the runs among some that have a model to talk to."""
    return [path for path in paths if _config(studio.root / path) is not None]


def template_of(folder: Path) -> Path | None:
    """Return the chat template that a run was trained with, or None."""
    paths = RunPaths(folder)
    found = (part / "chat_template.jinja" for part in (paths.model, paths.adapter))
    return next((path for path in found if path.is_file()), None)


def _config(folder: Path) -> Path | None:
    """Return the file that makes a run's folder a model; a run that goes on has none yet."""
    model = RunPaths(folder).model
    return next((path for name in ("config.json", "adapter_config.json") if (path := model / name).is_file()), None)


def _recipe(folder: Path, shown: str) -> dict[str, Any]:
    """Return the model's part of a run's recipe."""
    try:
        values = yaml.safe_load(RunPaths(folder).recipe.read_text(encoding="utf-8"))
        model = values.get("model", {})
        return {"name": model} if isinstance(model, str) else dict(model)
    except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError, InstilError):
        raise PageProblem(422, "chat.no_recipe", path=shown) from None


def _base_words(folder: Path, run: str, recipe: dict[str, Any], shown: str) -> list[str]:
    """Return the words that serve a run's base with the run's template: both sides then see the same prompt."""
    words = [f"--model={_base_name(recipe, shown)}"]
    if isinstance(revision := recipe.get("revision"), str):
        words.append(f"--revision={revision}")
    template = template_of(folder)
    if template is not None:
        words.append(f"--template=./{run}/{os.path.relpath(template, folder)}")
    return words


def _base_name(recipe: dict[str, Any], shown: str) -> str:
    name = recipe.get("name")
    if not isinstance(name, str) or not name:
        raise PageProblem(422, "chat.no_recipe", path=shown)
    return name
