"""Reads what stands inside a message: content parts, tool calls and tool definitions.

Used by `instil.data.messages` and by the formats. Questionable on purpose: parts that are only text in the style of
LLaMA-Factory (``{"type": "text", "value": …}``) become one string, because that is how that tool renders them; parts in
OpenAI's style stay parts, because templates see the difference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from instil.conversation import EMPTY, ToolCall
from instil.data.sources.strict_json import RefusedJson, parse_text
from instil.errors import DataError

_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_REASONING_PARTS = frozenset({"reasoning", "thinking"})
_MEDIA_WORDS = ("image", "video", "audio", "file", "document")


@dataclass(frozen=True, slots=True)
class Content:
    """What a content list held: the text or parts, and what stood among them."""

    content: str | tuple[Mapping[str, Any], ...]
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()


def read_parts(parts: Sequence[Any], *, where: str) -> Content:
    """Read a content list: text parts, reasoning parts, tool-call parts.

    Args:
        parts: The list as it stands in the data.
        where: Place and message, which errors start with.

    Raises:
        DataError: On a part that is no text, by name: images, video and audio are not trained on.

    Example:
        >>> read_parts([{"type": "text", "value": "a"}, {"type": "text", "value": "b"}], where="row 1").content
        'ab'
    """
    texts: list[Mapping[str, Any]] = []
    reasoning: list[str] = []
    calls: list[ToolCall] = []
    plain = True
    for number, part in enumerate(parts, start=1):
        if isinstance(part, str):
            texts.append({"type": "text", "text": part})
            plain = False
            continue
        if not isinstance(part, Mapping):
            raise DataError(f"{where}: part {number} is {kind_of(part)}; expected text or a mapping with 'type'")
        kind = str(part.get("type", "text"))
        value = _part_value(part, kind)
        if kind in _TEXT_PARTS and isinstance(value, str):
            plain = plain and "value" in part
            rest = {
                key: item for key, item in part.items() if key not in ("type", "text", "value") and item is not None
            }
            texts.append({"type": "text", "text": value, **rest})
        elif kind in _REASONING_PARTS and isinstance(value, str):
            reasoning.append(value)
        elif kind == "tool_call":
            calls.extend(read_tool_calls(value, where=where))
        else:
            raise DataError(_unusable_part(number, kind, where))
    if plain:
        content: str | tuple[Mapping[str, Any], ...] = "".join(part["text"] for part in texts)
    else:
        content = tuple(texts)
    return Content(content, "".join(reasoning) if reasoning else None, tuple(calls))


def _part_value(part: Mapping[str, Any], kind: str) -> Any:
    for key in ("text", "value", kind):
        if part.get(key) is not None:
            return part[key]
    return None


def _unusable_part(number: int, kind: str, where: str) -> str:
    if any(word in kind for word in _MEDIA_WORDS):
        return (
            f"{where}: part {number} is of type {kind!r}; only text can be trained on; "
            "remove such rows, or leave them out with data.on_bad_row: skip"
        )
    return f"{where}: part {number} has type {kind!r} without text; expected text, reasoning or tool_call; mend the row"


def read_tool_calls(given: Any, *, where: str) -> tuple[ToolCall, ...]:
    """Read one or several calls: OpenAI's nested shape, the flat one, or either as a JSON string.

    Raises:
        DataError: If a call has no name.

    Example:
        >>> read_tool_calls({"name": "weather", "arguments": '{"city": "Hue"}'}, where="row 1")[0].arguments
        {'city': 'Hue'}
    """
    if isinstance(given, str):
        given = parse_json(given)
    if isinstance(given, Mapping):
        given = [given]
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise DataError(f"{where}: found a tool call that is no JSON object; expected name and arguments; mend the row")
    return tuple(_read_tool_call(call, where=where) for call in given)


def _read_tool_call(given: Any, *, where: str) -> ToolCall:
    if isinstance(given, str):
        given = parse_json(given)
    if not isinstance(given, Mapping):
        raise DataError(f"{where}: found a tool call that is no JSON object; expected name and arguments; mend the row")
    nested = given.get("function")
    call = nested if isinstance(nested, Mapping) else given
    name = call.get("name")
    if not isinstance(name, str) or not name:
        raise DataError(
            f"{where}: a tool call has keys {', '.join(map(str, call)) or 'none'}; expected name and arguments; mend the row"
        )
    arguments = call.get("arguments", call.get("parameters", EMPTY))
    if isinstance(arguments, str):
        parsed = parse_json(arguments)
        arguments = parsed if isinstance(parsed, Mapping) else arguments
    elif arguments is None:
        arguments = EMPTY
    elif not isinstance(arguments, Mapping):
        arguments = json.dumps(arguments, ensure_ascii=False)
    used = {"function", "type", "id"} if call is nested else {"type", "id", "name", "arguments"}
    used |= set() if "arguments" in call else {"parameters"}
    extra = {key: value for key, value in given.items() if key not in used and value is not None}
    if call is nested:
        extra.update({f"function.{key}": value for key, value in call.items() if key not in ("name", "arguments")})
    identity = given.get("id")
    return ToolCall(name, arguments, None if identity is None else str(identity), extra or EMPTY)


def write_tool_call(call: ToolCall) -> dict[str, Any]:
    """Give OpenAI's shape of a call; arguments become a JSON string, as its fine-tuning files have them.

    Example:
        >>> write_tool_call(ToolCall("weather", {"city": "Hue"}))["function"]["arguments"]
        '{"city": "Hue"}'
    """
    arguments = call.arguments
    if not isinstance(arguments, str):
        arguments = json.dumps(dict(arguments), ensure_ascii=False)
    function: dict[str, Any] = {"name": call.name, "arguments": arguments}
    written: dict[str, Any] = {} if call.id is None else {"id": call.id}
    written |= {"type": "function", "function": function}
    for key, value in call.extra.items():
        if key.startswith("function."):
            function[key.removeprefix("function.")] = value
        else:
            written[key] = value
    return written


def read_tools(given: Any, *, where: str) -> tuple[Mapping[str, Any], ...]:
    """Read tool definitions: a list, a JSON string of one, or bare functions, which are wrapped as transformers takes them.

    Raises:
        DataError: If it is no list of JSON objects.

    Example:
        >>> read_tools('[{"name": "weather", "parameters": {}}]', where="row 1")[0]["type"]
        'function'
        >>> read_tools("[]", where="row 1")
        ()
    """
    if isinstance(given, str):
        if given.strip() in ("", "null"):
            return ()
        parsed = parse_json(given)
        given = given if parsed is None else parsed
    if isinstance(given, Mapping):
        given = [given] if given else []
    if given is None:
        given = []
    if (
        not isinstance(given, Sequence)
        or isinstance(given, str)
        or not all(isinstance(tool, Mapping) for tool in given)
    ):
        raise DataError(f"{where}: tools is no list of JSON objects; expected JSON-schema definitions; mend the row")
    return tuple({"type": "function", "function": tool} if _is_bare(tool) else tool for tool in given)


def _is_bare(tool: Mapping[str, Any]) -> bool:
    return "function" not in tool and "name" in tool and str(tool.get("type", "function")) == "function"


def kind_of(value: Any) -> str:
    """Name what a value is in words of JSON, for errors.

    Example:
        >>> kind_of(None), kind_of(4), kind_of({})
        ('null', 'a number', 'an object')
    """
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    kinds = ((str, "a text"), (int | float, "a number"), (Mapping, "an object"), (Sequence, "a list"))
    return next((word for kind, word in kinds if isinstance(value, kind)), f"a {type(value).__name__}")


def parse_json(text: str) -> Any:
    """Parse JSON text inside a row; give None where it is none, or what a row of JSON is refused for (see `parse_text`)."""
    try:
        return parse_text(text)
    except (ValueError, RecursionError, RefusedJson):
        return None
