"""What a data page looks at: the data, how they are read, and the model and template that will see them.

All of it stands in the page's address, so a reload, a second tab and a bookmark show the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from instil.data.formats.pattern import check_columns
from instil.data.sources.files import container_of
from instil.errors import RecipeError
from instil.recipe import Format, Objective
from instil.studio.problems import PageProblem
from instil.studio.studio import Studio
from instil.studio.workspace import is_hub_name
from instil.template.library import NAMED_TEMPLATES

ROLES = ("system", "user", "assistant")
"""Roles that columns can be chosen for."""
PURPOSES: tuple[Objective, ...] = ("sft", "dpo", "kto")
"""What rows can be read for: answers to imitate, pairs, judged answers."""
_MOST_FILES = 2_000


@dataclass(frozen=True, slots=True)
class Subject:
    """What is looked at.

    Attributes:
        data: A path below the workspace, or a Hub id.
        is_hub: Whether it is read from the Hub.
        format: How rows are read; ``auto`` detects it.
        objective: What rows are read for.
        columns: Text with ``{column}`` for each role; empty for rows in a known format.
        model: ``demo``, a path below the workspace, or a Hub id.
        template: A named template, a path below the workspace, or empty for the model's own.
        problems: For ``model``, ``template`` and ``columns``: key and values of the text that says what is wrong.
    """

    data: str
    is_hub: bool
    format: str = "auto"
    objective: Objective = "sft"
    columns: Mapping[str, str] = field(default_factory=dict)
    model: str = "demo"
    template: str = ""
    problems: Mapping[str, tuple[str, dict[str, object]]] = field(default_factory=dict)

    @property
    def query(self) -> dict[str, str]:
        """The parameters of an address that shows the same."""
        chosen = {"format": self.format, "objective": self.objective, "model": self.model, "template": self.template}
        usual = {"format": "auto", "objective": "sft", "model": "demo", "template": ""}
        changed = {name: value for name, value in chosen.items() if value != usual[name]}
        return {"path": self.data, **changed, **self.columns}

    @property
    def recipe_query(self) -> dict[str, str]:
        """The parameters of `/recipe` that make a recipe for this."""
        named = {name: value for name, value in self.query.items() if name not in (*ROLES, "path", "format")}
        columns = {"columns": json.dumps(dict(self.columns))} if self.columns else {}
        form = {"format": self.format} if self.format != "auto" and not self.columns else {}
        return {"data": self.data, **columns, **form, **named, "model": self.model}

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a recipe with this data and this model."""
        source: dict[str, Any] = {"path": self.data}
        if self.columns:
            source["columns"] = dict(self.columns)
        elif self.format != "auto":
            source["format"] = self.format
        return {
            "model": {"name": self.model} | ({"template": self.template} if self.template else {}),
            "data": {"sources": [source]},
            "training": {"objective": self.objective},
        }

    @property
    def argv(self) -> list[str]:
        """The words of a command that inspects the data, without its output."""
        # A file's name may begin like an option.
        data = f"./{self.data}" if self.data.startswith("-") else self.data
        words = ["inspect", data, f"--model={self.model}", f"--objective={self.objective}", "--json", "--quiet"]
        words += [f"--template={self.template}"] if self.template else []
        words += [f"--data.columns.{role}={text}" for role, text in self.columns.items()]
        return words + ([f"--format={self.format}"] if self.format != "auto" and not self.columns else [])

    def key(self, root: Path) -> str:
        """Return a name for what was found out about this, which changes with the files and the settings."""
        values = [self.settings, [] if self.is_hub else list(_states(root / self.data)), self.model_state(root)]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:24]

    def model_state(self, root: Path) -> list[Any]:
        """Return a value that changes when the model's tokenizer or the template's file does."""
        names = ("", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "model/tokenizer.json")
        paths = [root / self.model / name for name in names] + [root / self.template]
        return [
            path.stat().st_mtime_ns for path in paths if path.is_relative_to(root) and path.exists() and path != root
        ]


def _states(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, size and time of the data files of a path."""
    files = (
        [path] if path.is_file() else sorted(file for file in path.rglob("*") if container_of(file.name) is not None)
    )
    for file in files[:_MOST_FILES]:
        stat = file.stat()
        yield str(file), stat.st_size, stat.st_mtime_ns


def subject_of(values: Mapping[str, str], studio: Studio) -> Subject:
    """Return what an address means.

    What is wrong with model, template or columns is said beside them; without data there is no page.

    Raises:
        PageProblem: If the data are not in the workspace, and are no Hub id either.
    """
    data = values.get("path", "").strip()
    is_hub = is_hub_name(studio.root, data)
    if not is_hub:
        data = _data_below(data, studio)
    form, objective = values.get("format", "auto"), values.get("objective", "sft")
    if form not in get_args(Format) or form == "pattern":
        form = "auto"
    problems: dict[str, tuple[str, dict[str, object]]] = {}
    columns = {role: values[role] for role in ROLES if values.get(role, "").strip()}
    if columns:
        try:
            check_columns(columns)
        except RecipeError as error:
            problems["columns"] = ("data.reason", {"reason": str(error).removeprefix("columns: ")})
            columns = {}
    if columns and objective != "sft":
        problems["columns"] = ("data.columns_compare", {})
        columns = {}
    model, template = values.get("model", "").strip() or "demo", values.get("template", "").strip()
    if model != "demo" and not _exists(model, studio) and not is_hub_name(studio.root, model):
        problems["model"] = ("data.no_model", {"model": model})
        model = "demo"
    if template and template not in NAMED_TEMPLATES and not _exists(template, studio):
        problems["template"] = ("data.no_template", {"template": template})
        template = ""
    purpose: Objective = next((purpose for purpose in PURPOSES if purpose == objective), "sft")
    return Subject(data, is_hub, form, purpose, columns, model, template, problems)


def _data_below(data: str, studio: Studio) -> str:
    """Return the path of data below the workspace.

    Raises:
        PageProblem: If it, or a file in it, leads out of the workspace, or it is not there.
    """
    return studio.whole(data).relative_to(studio.root).as_posix()


def _exists(name: str, studio: Studio) -> bool:
    """Return whether a name is a file of the workspace, or a folder with nothing in it that leads out."""
    try:
        studio.whole(name)
    except PageProblem:
        return False
    return True
