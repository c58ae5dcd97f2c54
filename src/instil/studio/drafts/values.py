"""The text of a field and the value of its setting, both ways. What is wrong stays as it was typed: the recipe judges it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from instil.errors import RecipeError
from instil.recipe.yaml_file import read_recipe_text
from instil.studio.drafts.fields import Field, default_text
from instil.studio.drafts.text import REMOVED, WIDTH, dump

_RANGE = re.compile(r"[-+.\deE]+\.\.[-+.\deE]+(:(log|linear))?", re.IGNORECASE)
_WHOLE = re.compile(r"[-+]?\d{1,18}")


class Swept:
    """The value of a number field in which several values were typed.

    Attributes:
        values: What a recipe's ``sweep:`` has: a list, or a range as text.
    """

    __slots__ = ("values",)

    def __init__(self, values: Any) -> None:
        self.values = values


def text_of(field: Field, value: Any) -> str:
    """Return a value as its field shows it.

    Args:
        field: The field.
        value: What stands in the YAML; `REMOVED` if nothing does.
    """
    if value is REMOVED:
        return ""
    if value is None:
        return "none" if field.default else ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if field.kind == "names" and isinstance(value, list) and all(_is_plain(item) for item in value):
        return ", ".join(map(str, value))
    if (
        field.kind == "lines"
        and isinstance(value, list)
        and all(isinstance(item, str) and "\n" not in item for item in value)
    ):
        return "\n".join(value)
    if field.kind == "mapping" and isinstance(value, Mapping):
        return _yaml(dict(value)) if value else ""
    if isinstance(value, float):
        return default_text(value) if float(default_text(value)) == value else repr(value)
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else _flow(value)


def value_of(field: Field, text: str) -> Any:
    """Return the value that the text of a field means.

    Returns:
        The value for the YAML; `REMOVED` if the field is empty or has its default; `Swept` for several numbers.
    """
    text = text.replace("\r\n", "\n")
    if field.kind == "lines":
        lines = [line for line in text.split("\n") if line.strip()]
        if field.name != "model.template":
            return lines or REMOVED
        return text.strip("\n") if lines else REMOVED
    text = text.strip()
    if not text or (field.kind in ("choice", "switch") and text == field.default):
        return REMOVED
    if field.kind == "switch":
        return {"true": True, "false": False}.get(text, text)
    if field.kind == "number":
        return _number_of(field, text)
    if field.kind == "names":
        return _names_of(field, text)
    if field.kind == "mapping":
        try:
            return read_recipe_text(text, source=field.name)
        except RecipeError:
            return text  # the recipe says what it expects
    return text


def _number_of(field: Field, text: str) -> Any:
    if text.lower() in ("none", "null") and field.is_optional:
        return None if field.default else REMOVED
    if _RANGE.fullmatch(text):
        return Swept(text)
    parts = [part.strip() for part in text.strip("[]").split(",")]
    if len(parts) > 1 and all(parts):
        return Swept([number(part) for part in parts])
    return number(text)


def number(text: str) -> Any:
    """Return a number as YAML should have it: as it was typed where YAML reads it so.

    Example:
        >>> number("16"), number("0.5"), number("1e-4"), number("x")
        (16, 0.5, '1e-4', 'x')
    """
    if _WHOLE.fullmatch(text):
        return int(text)
    read = yaml.safe_load(text) if re.fullmatch(r"[-+]?\d*\.\d+", text) else text
    return read if isinstance(read, float) else text


def _names_of(field: Field, text: str) -> Any:
    if text.startswith("["):
        return _listed(text)
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if field.name == "optimizer.betas":
        return [number(part) for part in parts]
    return parts[0] if field.name == "adapter.targets" and len(parts) == 1 else parts


def swept_text(values: Any) -> str:
    """Return the values of a sweep as a field shows them.

    Example:
        >>> swept_text(["1e-4", 3]), swept_text("1e-5..1e-3"), swept_text([["a"], ["b"]]), swept_text(["a, b"])
        ('1e-4, 3', '1e-5..1e-3', '[[a], [b]]', "['a, b']")
    """
    if isinstance(values, str):
        return values
    if isinstance(values, Mapping) and {"low", "high"} <= values.keys():
        kind = {True: ":log", False: ":linear"}.get(values.get("log"), "")  # type: ignore[arg-type]
        return f"{values['low']}..{values['high']}{kind}"
    if isinstance(values, list) and len(values) > 1 and all(_is_plain(item) for item in values):
        return ", ".join(_plain(item) for item in values)
    return _flow(values)


def swept_of(field: Field | None, text: str) -> Any:
    """Return the values of a sweep that a text means; `REMOVED` if it is empty."""
    text = text.strip()
    if not text:
        return REMOVED
    if text.startswith("["):
        return _listed(text)
    if _RANGE.fullmatch(text):
        return text
    parts = [part.strip() for part in text.split(",")]
    if field is not None and field.kind == "number":
        return [None if part.lower() in ("none", "null") else number(part) for part in parts]
    if field is not None and field.kind == "switch":
        return [{"true": True, "false": False}.get(part.lower(), part) for part in parts]
    if field is not None and field.kind == "names" and field.name != "adapter.targets":
        return [[part] for part in parts]
    return parts


def source_texts(source: Any) -> dict[str, str]:
    """Return a source of the YAML as the texts of its fields; empty where nothing is set.

    Example:
        >>> source_texts("rows.jsonl")
        {'path': 'rows.jsonl'}
    """
    if not isinstance(source, Mapping):
        return {"path": source if isinstance(source, str) else _flow(source)}
    texts = {}
    for name, value in source.items():
        texts[str(name)] = _yaml(dict(value)) if isinstance(value, Mapping) else str(value)
    return texts


def sources_of(rows: Sequence[tuple[Any, Mapping[str, str]]], source_fields: Mapping[str, Field]) -> Any:
    """Return the value of ``data.sources``.

    Args:
        rows: What each source was in the YAML, with the texts of its fields; a source without a path is left out.
        source_fields: The fields of a source.
    """
    sources: list[Any] = []
    for before, texts in rows:
        if not texts.get("path", "").strip():
            continue
        source = dict(before) if isinstance(before, Mapping) else {}
        for name, text in texts.items():
            value = value_of(source_fields[name], text)
            value = value.values if isinstance(value, Swept) else value
            source.pop(name, None) if value is REMOVED else source.__setitem__(name, value)
        sources.append(source["path"] if list(source) == ["path"] else source)
    return sources or REMOVED


def as_sources(value: Any) -> list[Any]:
    """Return what stands for sources in the YAML as a list."""
    if value is REMOVED or value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip()) and not set(value) & set(",[]\n") and value == value.strip()
    return value is None or isinstance(value, bool | int | float)


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    return default_text(value) if isinstance(value, bool) else str(value)


def _listed(text: str) -> Any:
    try:
        value = read_recipe_text(f"x: {text}", source="list").get("x")
    except RecipeError:
        return text
    return value if isinstance(value, list) else text


def _yaml(value: Any) -> str:
    return dump(value, width=WIDTH).rstrip("\n")


def _flow(value: Any) -> str:
    text = dump(value, default_flow_style=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")
