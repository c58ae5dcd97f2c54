"""Write docs/reference/settings.md from the recipe's own descriptions: ``python docs/make_settings.py``.

A test checks that the page is up to date.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic_core import PydanticUndefined

from instil.recipe import Recipe, Settings

HEAD = """# Settings

Every setting of a recipe: the YAML file, the command line (`instil train recipe.yaml --optimizer.lr 1e-4`) and
`instil.Recipe` share these names, defaults and checks.

An unknown key is an error with the nearest name. `2e-5` is a number. `~` at the start of a path is the home folder.
On the command line a list is typed with spaces (`--adapter.targets q_proj v_proj`), commas, the option repeated, or
as a JSON list. This page is written by `python docs/make_settings.py` from `src/instil/recipe/`.
"""


def kind(annotation: Any) -> str:
    """Return a type in words."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return kind(get_args(annotation)[0])
    if origin is Literal:
        return " \\| ".join(f"`{word}`" for word in get_args(annotation))
    if origin in (Union, UnionType):
        return " \\| ".join(kind(part) for part in get_args(annotation) if part is not type(None))
    if origin in (list, tuple):
        return f"list of {kind(get_args(annotation)[0])}"
    if origin is dict:
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return f"`{annotation.__name__}`"
    return {"str": "text", "int": "whole number", "float": "number", "bool": "true \\| false"}.get(
        annotation.__name__, "any"
    )


def default_of(field: Any) -> str:
    """Return a default as YAML writes it."""
    if field.default_factory is not None:
        value = field.default_factory()
        return "" if isinstance(value, Settings) else json.dumps(value)
    if field.default is PydanticUndefined:
        return "required"
    return "" if field.default is None else json.dumps(field.default)


def section(group: type[Settings], prefix: str) -> list[str]:
    """Return the lines of one group of settings: its table, then the groups inside it."""
    title = f"`{prefix.rstrip('.')}`" if prefix else "At the top"
    lines = [f"\n## {title}\n", f"{(group.__doc__ or '').strip().splitlines()[0]}\n"]
    lines += ["| setting | kind | default | meaning |", "|---|---|---|---|"]
    inner: list[str] = []
    for name, field in group.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Settings):
            inner += section(annotation, f"{prefix}{name}.")
            continue
        listed = [part for part in get_args(annotation) if isinstance(part, type) and issubclass(part, Settings)]
        if listed and f"{prefix}{name}" == "data.sources":
            inner += section(listed[0], f"{prefix}{name}[].")
        text = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{prefix}{name}` | {kind(annotation)} | {default_of(field)} | {text} |")
    return lines + inner


def page() -> str:
    """Return the text of the page."""
    return HEAD + "\n".join(section(Recipe, "")) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "reference" / "settings.md").write_text(page(), encoding="utf-8")
