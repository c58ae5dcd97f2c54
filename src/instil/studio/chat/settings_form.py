"""The form of a chat's settings: read into a record, with what is wrong beside each field."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from instil.studio.chat.records import ChatSettings, Sampling

VARIABLE = "variable:"
"""How the names of fields begin that hold a template variable."""
NUMBERS: Mapping[str, tuple[type, float, float]] = {
    "temperature": (float, 0, 10),
    "top_p": (float, 0, 1),
    "top_k": (int, 1, 2**31),
    "min_p": (float, 0, 1),
    "repetition_penalty": (float, 0.01, 10),
    "max_tokens": (int, 1, 8192),
    "seed": (int, 0, 2**53),
}
"""Kind, least and largest value of each sampling setting."""
MOST_CHARACTERS = 200_000
"""Of a system text or of tools."""


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """What a form says.

    Attributes:
        settings: The settings, without the fields that are wrong.
        problems: By field: the key of a text and its values.
        fields: What was typed, by field; a page shows it again.
    """

    settings: ChatSettings
    problems: Mapping[str, tuple[str, Mapping[str, object]]]
    fields: Mapping[str, str] = field(default_factory=dict)


def read_settings(form: Mapping[str, str]) -> ReadSettings:
    """Read the fields of the form.

    Example:
        >>> read_settings({"temperature": "hot"}).problems
        {'temperature': ('chat.no_number', {'found': 'hot', 'least': 0, 'most': 10})}
    """
    problems: dict[str, tuple[str, Mapping[str, object]]] = {}
    numbers: dict[str, Any] = {}
    for name, (kind, least, most) in NUMBERS.items():
        text = form.get(name, "").strip()
        if not text:
            continue
        value = _number(text, kind)
        if value is None or not least <= value <= most:
            problems[name] = ("chat.no_number", {"found": text[:40], "least": least, "most": most})
        else:
            numbers[name] = value
    tools = _tools(form.get("tools", ""), problems)
    system = form.get("system", "").replace("\r\n", "\n")
    if len(system) > MOST_CHARACTERS:
        problems["system"] = ("chat.too_long", {"most": MOST_CHARACTERS})
        system = ""
    settings = ChatSettings(
        system=system, sampling=Sampling(**numbers), variables=_variables(form, problems), tools=tools
    )
    return ReadSettings(settings, problems, dict(form))


def fields_of(settings: ChatSettings) -> dict[str, str]:
    """Return the settings as the fields of the form; `read_settings` reads them back."""
    fields = {name: str(value) for name, value in asdict(settings.sampling).items() if value is not None}
    fields |= {VARIABLE + name: _shown(value) for name, value in settings.variables.items()}
    tools = json.dumps(list(settings.tools), ensure_ascii=False, indent=1) if settings.tools else ""
    return fields | {"system": settings.system, "tools": tools}


def _number(text: str, kind: type) -> float | int | None:
    try:
        value = kind(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _tools(text: str, problems: dict[str, tuple[str, Mapping[str, object]]]) -> tuple[Mapping[str, Any], ...]:
    if not text.strip():
        return ()
    try:
        value = json.loads(text) if len(text) <= MOST_CHARACTERS else None
    except ValueError as error:
        problems["tools"] = ("chat.no_json", {"found": str(error)})
        return ()
    value = [value] if isinstance(value, dict) else value
    if not isinstance(value, list) or not all(_is_tool(tool) for tool in value):
        problems["tools"] = ("chat.no_tools", {})
        return ()
    return tuple(tool if "function" in tool else {"type": "function", "function": tool} for tool in value)


def _is_tool(tool: object) -> bool:
    """Return whether a value defines a tool: OpenAI's form, or the inner part of it alone."""
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    return isinstance(function, dict) and isinstance(function.get("name"), str) and bool(function["name"])


def _variables(form: Mapping[str, str], problems: dict[str, tuple[str, Mapping[str, object]]]) -> Mapping[str, Any]:
    """Return the variables; an empty field is none. A pair of fields adds one that the template's text does not show."""
    texts = {name.removeprefix(VARIABLE): text for name, text in form.items() if name.startswith(VARIABLE)}
    added = form.get("added_name", "").strip()
    if added and not added.isidentifier():
        problems["added_name"] = ("chat.no_name", {"found": added[:40]})
    elif added:
        texts[added] = form.get("added_value", "")
    return {name: _value(text.strip()) for name, text in texts.items() if text.strip() and name.isidentifier()}


def _value(text: str) -> Any:
    """Return a variable's value: JSON where it is some, else the text as it is.

    Example:
        >>> _value("true"), _value("12"), _value("low")
        (True, 12, 'low')
    """
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, float) and not math.isfinite(value) else value


def _shown(value: Any) -> str:
    if isinstance(value, str) and _value(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def variable_names(known: Sequence[str], settings: ChatSettings) -> list[str]:
    """Return the variables that the form has a field for: those of the template, then those that were added."""
    return list(dict.fromkeys([*known, *settings.variables]))
