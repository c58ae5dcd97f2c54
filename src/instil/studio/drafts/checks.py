"""What is wrong with a draft, by setting: the recipe's own words, and what a page may not set."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instil.errors import RecipeError
from instil.recipe import Recipe
from instil.recipe.paths import path_settings
from instil.remote.urls import is_url
from instil.studio.drafts.fields import ALLOWED, REFUSED, fields
from instil.studio.drafts.text import flat_settings, sweep_in
from instil.studio.workspace import OutsideError, inside, is_hub_name, leads_out
from instil.sweeps.space import read_space
from instil.template.format_string import is_format_string
from instil.template.library import NAMED_TEMPLATES

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
    """Return what a page may not set: foreign code, what sends data elsewhere, and files outside of the workspace.

    Args:
        flat: Settings by their dotted names, the sweep as ``sweep``.
        root: The workspace.
    """
    swept = sweep_in(flat)
    found = [
        Problem(name, key=key, value=name)
        for name, key in REFUSED.items()
        if name in swept or (name in flat and not _is_allowed(name, flat[name]))
    ]
    for name in ("data.sources", "data.heldout"):
        paths = [path for value in _values(name, flat, swept) for path in _paths(value)]
        found += [problem for path in paths if (problem := _unusable_data(name, path, root))]
    for name in path_settings():
        values = [value for value in _values(name, flat, swept) if isinstance(value, str)]
        found += [
            Problem(name, key="recipe.outside", value=value)
            for value in values
            if not (name == "model.template" and _is_source(value)) and _is_outside(value, root)
        ]
    return found


def _values(name: str, flat: Mapping[str, Any], swept: Mapping[str, Any]) -> list[Any]:
    """Return the values that a setting has in the runs of a recipe."""
    values = swept.get(name, [])
    return [*([flat[name]] if name in flat else []), *(values if isinstance(values, list) else [values])]


def _is_allowed(name: str, value: Any) -> bool:
    """Return whether a setting that is refused has a value that does no harm."""
    values = value if isinstance(value, list) and value else [value]
    return value is None or all(any(value is one or value == one for one in ALLOWED.get(name, ())) for value in values)


def _is_source(template: str) -> bool:
    """Return whether a template is a name or a text rather than a file, as `template.resolve` tells them apart."""
    return (
        template in NAMED_TEMPLATES
        or any(sign in template for sign in ("{{", "{%", "\n"))
        or is_format_string(template)
    )


def _paths(value: Any) -> list[str]:
    found = []
    for source in value if isinstance(value, list) else [value]:
        path = source.get("path") if isinstance(source, Mapping) else source
        if isinstance(path, str):
            found.append(path)
    return found


def _is_outside(path: str, root: Path) -> bool:
    """Return whether a path, or a link in the folder that it names, leads out of the workspace.

    A Hub id and a name such as ``demo`` are paths in the workspace at which nothing is. So is ``FOLDER:NAME``, a template in
    a folder, which is looked at by its folder. The address of a bucket or a web server leads out.
    """
    if is_url(path):
        return True
    for part in dict.fromkeys((path, path.rpartition(":")[0] or path)):
        try:
            found = inside(root, _relative(part, root))
        except OutsideError:
            return True
        if found.is_dir() and leads_out(root, found):
            return True
    return False


def _unusable_data(name: str, path: str, root: Path) -> Problem | None:
    """Return a problem if a source of data leads out of the workspace, or to nothing."""
    if path == "-":
        return Problem(name, key="recipe.no_input", value=path)
    if path.startswith("hf://"):
        return None
    is_pattern = glob.has_magic(path)
    matches = glob.iglob(_relative(path, root), root_dir=root, recursive=True) if is_pattern else ()
    if _is_outside(path, root) or any(_is_outside(match, root) for match in matches):
        return Problem(name, key="recipe.outside", value=path)
    if is_pattern or (root / path).exists() or is_hub_name(root, path):
        return None
    return Problem(name, key="recipe.no_data", value=path)


def _relative(path: str, root: Path) -> str:
    """Return an absolute path below the workspace as a path in it; any other as it is, which `inside` refuses."""
    try:
        return Path(path).relative_to(root).as_posix()
    except ValueError:
        return path
