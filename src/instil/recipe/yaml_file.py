"""Read the YAML of a recipe file.

Only ``true`` and ``false`` are booleans, dates stay text, and a key that occurs twice is an error.

Why: YAML 1.1 reads ``off`` and ``yes`` as booleans and ``2024-01-01`` as a date. Of a key that occurs twice it silently
takes the last one.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from instil.errors import RecipeError, nearest

_TIMESTAMP, _BOOL = "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):
    """YAML's safe loader with unique keys, and without YAML 1.1's extra booleans and dates."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} occurs twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag != _TIMESTAMP and not (tag == _BOOL and first not in ("t", "T", "f", "F"))
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_recipe_file(path: Path) -> dict[str, Any]:
    """Return the settings of a recipe file; an empty file has none.

    Raises:
        RecipeError: If the file is missing, is no YAML mapping, or has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        beside = [entry.name for entry in path.parent.glob("*.y*ml")]
        raise RecipeError(
            f"{path}: no such recipe file{nearest(path.name, beside)}. Expected a YAML file. Check the path."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({error}). Expected a YAML file in UTF-8. Check the path.") from None
    return read_recipe_text(text, source=str(path))


def compose(text: str) -> yaml.Node | None:
    """Return the nodes of a recipe's text with their places; None if it is empty.

    Raises:
        yaml.YAMLError: If the text is not valid YAML.
    """
    return yaml.compose(text, Loader=_Loader)


def read_recipe_text(text: str, *, source: str) -> dict[str, Any]:
    """Return the settings of a recipe's text; an empty one has none.

    Args:
        text: YAML.
        source: Name of the text in errors.

    Raises:
        RecipeError: If it is no YAML mapping, or has a key twice.
    """
    try:
        values = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        line, problem = _place_of(error)
        raise RecipeError(f"{source}{line}: not valid YAML ({problem}). Expected settings. Fix that line.") from None
    except RecursionError:
        raise RecipeError(f"{source}: nested too deeply. Expected settings two or three levels deep. Fix it.") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        found = "a list" if isinstance(values, list) else f"only {str(values)[:40]!r}"
        raise RecipeError(f"{source}: found {found}. Expected a mapping of settings. See docs/reference/settings.md.")
    return values


def _place_of(error: yaml.YAMLError) -> tuple[str, str]:
    """Return the line of an error, with a colon in front, and what is wrong there.

    Why: the parser notices a bracket or a quote without an end lines later, at what follows. The line to fix is the one
    that opens it.
    """
    mark, context = getattr(error, "problem_mark", None), str(getattr(error, "context", None) or "")
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    opened = next((what for begin, what in _OPENED if context.startswith(begin)), "")
    context_mark = getattr(error, "context_mark", None)
    if opened and context_mark is not None and mark is not None and context_mark.line < mark.line:
        mark, problem = context_mark, problem if context.endswith("simple key") else f"{opened} has no end"
    return f":{mark.line + 1}" if mark else "", problem


_OPENED = (
    ("while parsing a flow sequence", "the list that begins with ["),
    ("while parsing a flow mapping", "the mapping that begins with {"),
    ("while scanning a quoted scalar", "the text that begins with a quote"),
    ("while scanning a simple key", "the key"),
)
"""Beginnings of the parser's words for what it was reading, with what that is in plain words."""
