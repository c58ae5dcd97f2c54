"""Write settings as a YAML file that explains itself: a comment above each setting."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from instil.errors import RecipeError
from instil.files import home_path, write_text_atomic
from instil.recipe.recipe import Recipe
from instil.recipe.settings import Settings
from instil.recipe.shipped import SUFFIXES
from instil.refused_writes import refused_writes

_WIDTH = 100


def commented_yaml(settings: Mapping[str, Any], comments: Mapping[str, str], *, head: Sequence[str] = ()) -> str:
    """Return settings as YAML with comments.

    Args:
        settings: Settings, nested as in a recipe file.
        comments: The comment of a setting, by its name with dots.
        head: Lines of the comment at the top of the file.

    Example:
        >>> print(commented_yaml({"optimizer": {"lr": 1e-3}}, {"optimizer.lr": "Fits 3M parameters."}), end="")
        optimizer:
          # Fits 3M parameters.
          lr: 0.001
    """
    lines = [f"# {line}".rstrip() for line in head]
    lines += [""] if head else []
    for group, value in settings.items():
        if isinstance(value, Mapping):
            lines.append(f"{group}:")
            for name, inner in value.items():
                lines += [f"  {line}" for line in _setting(name, inner, comments.get(f"{group}.{name}", ""))]
        else:
            lines += _setting(group, value, comments.get(group, ""))
    return "\n".join(lines) + "\n"


def _setting(name: str, value: Any, comment: str) -> Iterator[str]:
    import yaml  # Why: YAML is imported only where a file is written

    for line in textwrap.wrap(comment, _WIDTH, break_long_words=False, break_on_hyphens=False):
        yield f"# {line}"
    text: str = yaml.safe_dump({name: value}, sort_keys=False, allow_unicode=True, width=_WIDTH)
    yield from text.splitlines()


def settings_that_were_set(recipe: Recipe) -> dict[str, Any]:
    """Return the settings of a recipe that are not left to their defaults; a source with a path alone is its path.

    Example:
        >>> settings_that_were_set(Recipe.from_mapping({"data": "rows.jsonl", "adapter": "lora"}))["data"]
        {'sources': ['rows.jsonl']}
    """
    settings = recipe.model_dump(mode="json", exclude_unset=True)
    for key in ("sources", "heldout"):
        if key in settings.get("data", {}):
            sources = settings["data"][key]
            settings["data"][key] = [source["path"] if list(source) == ["path"] else source for source in sources]
    return {group: value for group, value in settings.items() if value != {}}


def descriptions() -> dict[str, str]:
    """Return what each setting of a recipe means, by its name with dots."""
    found: dict[str, str] = {}
    for group, field in Recipe.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Settings)), None)
        if inner is None:
            found[group] = field.description or ""
        else:
            found |= {f"{group}.{name}": part.description or "" for name, part in inner.model_fields.items()}
    return found


def write_recipe_file(path: str | Path, text: str) -> Path:
    """Write a recipe file, whole or not at all. A file that is there and holds something else stays as it is.

    Raises:
        RecipeError: If the file exists, or cannot be written.
    """
    file = home_path(path)
    if file.is_file() and file.read_bytes() == text.encode():
        return file
    check_new_file(path)
    with refused_writes(file, raises=RecipeError, otherwise="choose another file"):
        write_text_atomic(file, text)
    return file


def check_new_file(path: str | Path) -> None:
    """Raise if a path cannot be that of a new recipe.

    Raises:
        RecipeError: If it does not end as recipes do, or exists.
    """
    file = home_path(path)
    if file.suffix.lower() not in SUFFIXES:
        raise RecipeError(f"{path}: is no name of a recipe. Expected one that ends in .yaml. Choose another name.")
    if file.exists():
        raise RecipeError(f"{path}: exists, and is not overwritten. Expected a new file. Choose another, or remove it.")
