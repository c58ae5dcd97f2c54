"""What is wrong with a draft, by setting: the recipe's own words, and what a page may not set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instil.data.sources.rows import is_hub_id
from instil.errors import RecipeError
from instil.recipe import Recipe
from instil.studio.drafts.fields import FORBIDDEN, fields
from instil.studio.drafts.text import flat_settings, sweep_in
from instil.studio.workspace import OutsideError, inside
from instil.sweeps.space import read_space

_SOURCE = "recipe"


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong.

    Attributes:
        name: The setting that caused it; empty if none did.
        text: The recipe's own words; or empty.
        key: Key of a text of the studio, where the recipe has no words for it; or empty.
        value: What that text names.
    """

    name: str
    text: str = ""
    key: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """A draft that was checked.

    Attributes:
        problems: What is wrong, in the order of the form.
        recipe: The recipe, or None if something is wrong.
        num_runs: Number of runs that it starts.
    """

    problems: tuple[Problem, ...]
    recipe: Recipe | None
    num_runs: int = 1

    def of(self, name: str) -> list[Problem]:
        """Return the problems beside a field."""
        return [problem for problem in self.problems if problem.name == name]

    @property
    def elsewhere(self) -> list[Problem]:
        """The problems that have no field."""
        return [problem for problem in self.problems if problem.name not in fields() and problem.name != "sweep"]


def check(settings: Mapping[str, Any], *, root: Path, name: str) -> Checked:
    """Check the settings of a draft.

    Args:
        settings: As `settings_in` returns them.
        root: The workspace; files outside of it cannot be used.
        name: Name of the run.
    """
    flat = flat_settings(settings)
    refused = refusals(flat, root=root)
    wrong = [problem for problem in (_alone(key, value) for key, value in flat.items() if key != "sweep") if problem]
    found, recipe, num_runs = [*refused, *wrong], None, 1
    if not wrong:
        try:
            recipe = Recipe.from_mapping(settings, source=_SOURCE, name=name)
            num_runs = read_space(recipe).num_runs if recipe.sweep else 1
        except RecipeError as error:
            found.append(_problem(str(error)))
    order = [*fields(), "sweep"]
    found.sort(key=lambda problem: order.index(problem.name) if problem.name in order else -1)
    return Checked(tuple(found), None if found else recipe, num_runs)


def _alone(name: str, value: Any) -> Problem | None:
    """Return what is wrong with one setting."""
    try:
        Recipe.from_mapping({name: value}, source=_SOURCE)
    except RecipeError as error:
        return _problem(str(error), name)
    return None


def _problem(text: str, name: str = "") -> Problem:
    text = text.removeprefix(f"{_SOURCE}: ")
    if not name:
        key = text.partition(":")[0]
        name = "sweep" if key == "sweep" or key.startswith("sweep.") else key if key in fields() else ""
    return Problem(name, text)


def refusals(flat: Mapping[str, Any], *, root: Path) -> list[Problem]:
    """Return what a page may not set: foreign code, and files outside of the workspace.

    Args:
        flat: Settings by their dotted names, the sweep as ``sweep``.
        root: The workspace.
    """
    swept = sweep_in(flat)
    found = [
        Problem(name, key="recipe.forbidden", value=name)
        for name in sorted(FORBIDDEN)
        if (name in flat and flat[name] is not False) or name in swept
    ]
    for name in ("data.sources", "data.heldout"):
        lists = [flat[name]] if name in flat else []
        lists += swept[name] if isinstance(swept.get(name), list) else []
        paths = [path for value in lists for path in _paths(value)]
        found += [problem for path in paths if (problem := _outside(name, path, root, reads=True))]
    for name in ("output", "data.store", "model.template"):
        values = [flat.get(name), *(swept[name] if isinstance(swept.get(name), list) else [])]
        for value in values:
            if isinstance(value, str) and (name != "model.template" or _is_path(value)):
                found += [problem for problem in [_outside(name, value, root, reads=False)] if problem]
    return found


def _is_path(template: str) -> bool:
    """Return whether a template is a file or folder rather than a name or a source."""
    return "{" not in template and "\n" not in template and (template.startswith(("/", "~", ".")) or "/" in template)


def _paths(value: Any) -> list[str]:
    found = []
    for source in value if isinstance(value, list) else [value]:
        path = source.get("path") if isinstance(source, Mapping) else source
        if isinstance(path, str):
            found.append(path)
    return found


def _outside(name: str, path: str, root: Path, *, reads: bool) -> Problem | None:
    """Return a problem if a path leads out of the workspace, or, of data, to nothing."""
    if path == "-" and reads:
        return Problem(name, key="recipe.no_input", value=path)
    if path.startswith("hf://") and reads:
        return None
    try:
        found = inside(root, path if Path(path).is_absolute() is False else _relative(path, root))
    except OutsideError:
        return Problem(name, key="recipe.outside", value=path)
    if not reads or found.exists() or any(letter in path for letter in "*?[") or is_hub_id(path):
        return None
    return Problem(name, key="recipe.no_data", value=path)


def _relative(path: str, root: Path) -> str:
    """Return an absolute path below the workspace as a path in it; any other as it is, which `inside` refuses."""
    try:
        return Path(path).relative_to(root).as_posix()
    except ValueError:
        return path
