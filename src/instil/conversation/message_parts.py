"""Read the parts of a message: content parts, tool calls and tool definitions.

Used by `message_reading`, by `instil.data.messages` and by the formats.

Why: text parts in the style of LLaMA-Factory (``{"type": "text", "value": …}``) become one string, because that tool
renders them so. Parts in OpenAI's style stay parts, because templates can tell them from a string.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from instil.conversation.message import EMPTY, PartWeight, ToolCall
from instil.conversation.message_weights import WEIGHT_KEYS, read_weight
from instil.conversation.strict_json import RefusedJson, parse_text
from instil.errors import DataError

_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_REASONING_PARTS = frozenset({"reasoning", "thinking"})
_MEDIA_WORDS = ("image", "video", "audio", "file", "document")


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a list of parts, with the reasoning, tool calls and weights that were among the parts."""

    content: str | tuple[Mapping[str, Any], ...]
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    part_weights: tuple[PartWeight, ...] = ()


def read_parts(parts: Sequence[Any], *, where: str) -> Content:
    """Read a content list: text parts, reasoning parts, tool-call parts.

    Args:
        parts: The list from the data.
        where: Place and message number, with which errors start.

    Raises:
        DataError: If a part is not text, or has a weight that is none. Images, video and audio cannot be trained on.

    Example:
        >>> read_parts([{"type": "text", "value": "a"}, {"type": "text", "value": "b"}], where="row 1").content
        'ab'
    """
    texts: list[Mapping[str, Any]] = []
    reasoning: list[str] = []
    calls: list[ToolCall] = []
    text_weights: list[float | None] = []
    reasoning_weights: list[float | None] = []
    # True while every text is in LLaMA-Factory's style, in which the parts are one string.
    is_one_string = True
    for number, part in enumerate(parts, start=1):
        if isinstance(part, str):
            texts.append({"type": "text", "text": part})
            text_weights.append(None)
            is_one_string = False
            continue
        if not isinstance(part, Mapping):
            raise DataError(
                f"{where}: part {number} is {kind_of(part)}. Expected text or a mapping with 'type'. Fix the row."
            )
        kind = str(part.get("type", "text"))
        value = _part_value(part, kind)
        weight = read_weight(part, where=f"{where}: part {number}")
        if kind in _TEXT_PARTS and isinstance(value, str):
            is_one_string = is_one_string and "value" in part
            texts.append({"type": "text", "text": value, **_other_part_keys(part)})
            text_weights.append(weight)
        elif kind in _REASONING_PARTS and isinstance(value, str):
            reasoning.append(value)
            reasoning_weights.append(weight)
        elif kind == "tool_call" and weight not in (None, 1.0):
            raise DataError(
                f"{where}: part {number} is a tool call with a weight of its own. Expected text. Give the message the "
                "weight."
            )
        elif kind == "tool_call":
            calls.extend(read_tool_calls(value, where=where))
        else:
            raise DataError(_unusable_part(number, kind, where))
    content = "".join(part["text"] for part in texts) if is_one_string else tuple(texts)
    weights = _joined_weights("reasoning", reasoning, reasoning_weights)
    lines = [part["text"] for part in texts]
    if is_one_string:
        weights += _joined_weights("content", lines, text_weights)
    else:
        for number, (line, weight) in enumerate(zip(lines, text_weights, strict=True)):
            weights += _joined_weights(f"content.{number}.text", [line], [weight])
    return Content(content, "".join(reasoning) if reasoning else None, tuple(calls), weights)


def _joined_weights(field: str, texts: Sequence[str], weights: Sequence[float | None]) -> tuple[PartWeight, ...]:
    """Return the weights of texts that are joined to one; a weight of 1 needs no entry."""
    parts: list[PartWeight] = []
    start = 0
    for text, weight in zip(texts, weights, strict=True):
        if text and weight not in (None, 1.0):
            parts.append(PartWeight(field, start, start + len(text), weight))
        start += len(text)
    return tuple(parts)


def _part_value(part: Mapping[str, Any], kind: str) -> Any:
    for key in ("text", "value", kind):
        if part.get(key) is not None:
            return part[key]
    return None


def _other_part_keys(part: Mapping[str, Any]) -> dict[str, Any]:
    used = ("type", "text", "value", *WEIGHT_KEYS)
    return {key: value for key, value in part.items() if key not in used and value is not None}


def _unusable_part(number: int, kind: str, where: str) -> str:
    if any(word in kind for word in _MEDIA_WORDS):
        return (
            f"{where}: part {number} is of type {kind!r}. Only text can be trained on. "
            "Remove such rows, or leave them out with data.on_bad_row: skip."
        )
    return f"{where}: part {number} has type {kind!r} without text. Expected text, reasoning or tool_call. Fix the row."


def read_tool_calls(calls: Any, *, where: str) -> tuple[ToolCall, ...]:
    """Read one or several calls: OpenAI's nested shape, the flat one, or either as a JSON string.

    Raises:
        DataError: If a call has no name.

    Example:
        >>> read_tool_calls({"name": "weather", "arguments": '{"city": "Hue"}'}, where="row 1")[0].arguments
        {'city': 'Hue'}
    """
    if isinstance(calls, str):
        calls = parse_json(calls)
    if isinstance(calls, Mapping):
        calls = [calls]
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise DataError(_not_a_call(where))
    return tuple(_read_tool_call(call, where=where) for call in calls)


def _not_a_call(where: str) -> str:
    return f"{where}: found a tool call that is not a JSON object. Expected name and arguments. Fix the row."


def _read_tool_call(call: Any, *, where: str) -> ToolCall:
    if isinstance(call, str):
        call = parse_json(call)
    if not isinstance(call, Mapping):
        raise DataError(_not_a_call(where))
    nested = call.get("function")
    function = nested if isinstance(nested, Mapping) else call  # flat: name and arguments stand beside the id
    name = function.get("name")
    if not isinstance(name, str) or not name:
        keys = ", ".join(map(str, function)) or "none"
        raise DataError(f"{where}: a tool call has keys {keys}. Expected name and arguments. Fix the row.")
    call_id = call.get("id")
    return ToolCall(
        name,
        _read_arguments(function),
        id=None if call_id is None else str(call_id),
        extra=_other_call_keys(call, function) or EMPTY,
    )


def _read_arguments(function: Mapping[str, Any]) -> Mapping[str, Any] | str:
    """Return the arguments as a mapping; as text if they are not one."""
    arguments = function.get("arguments", function.get("parameters", EMPTY))
    if isinstance(arguments, Mapping):
        return arguments
    if arguments is None:
        return EMPTY
    if isinstance(arguments, str):
        parsed = parse_json(arguments)
        return parsed if isinstance(parsed, Mapping) else arguments
    return json.dumps(arguments, ensure_ascii=False)


def _other_call_keys(call: Mapping[str, Any], function: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that `ToolCall` has no field for; `function` is `call` itself in the flat shape."""
    is_nested = function is not call
    used = {"function", "type", "id"} if is_nested else {"type", "id", "name", "arguments"}
    if "arguments" not in function:
        used.add("parameters")  # they were read as the arguments
    extra = {key: value for key, value in call.items() if key not in used and value is not None}
    if is_nested:
        extra |= {f"function.{key}": value for key, value in function.items() if key not in ("name", "arguments")}
    return extra


def write_tool_call(call: ToolCall) -> dict[str, Any]:
    """Return a call in OpenAI's shape. Arguments become a JSON string, as in OpenAI's fine-tuning files.

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


def read_tools(tools: Any, *, where: str) -> tuple[Mapping[str, Any], ...]:
    """Read tool definitions: a list, or a JSON string of one. Bare functions are wrapped as transformers expects.

    Raises:
        DataError: If they are not a list of JSON objects.

    Example:
        >>> read_tools('[{"name": "weather", "parameters": {}}]', where="row 1")[0]["type"]
        'function'
        >>> read_tools("[]", where="row 1")
        ()
    """
    # Tables hold the list as JSON text; "null" and empty text are what they hold where a row has no tools.
    if isinstance(tools, str):
        if tools.strip() in ("", "null"):
            return ()
        parsed = parse_json(tools)
        tools = tools if parsed is None else parsed
    if isinstance(tools, Mapping):
        tools = [tools] if tools else []
    if tools is None:
        tools = []
    if (
        not isinstance(tools, Sequence)
        or isinstance(tools, str)
        or not all(isinstance(tool, Mapping) for tool in tools)
    ):
        raise DataError(f"{where}: tools is not a list of JSON objects. Expected JSON-schema definitions. Fix the row.")
    return tuple({"type": "function", "function": tool} if _is_bare(tool) else tool for tool in tools)


def _is_bare(tool: Mapping[str, Any]) -> bool:
    return "function" not in tool and "name" in tool and str(tool.get("type", "function")) == "function"


def kind_of(value: Any) -> str:
    """Return what a value is in the words of JSON, for error messages.

    Example:
        >>> kind_of(None), kind_of(4), kind_of({}), kind_of(b"4")
        ('null', 'a number', 'an object', 'bytes')
    """
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    kinds = ((str, "a text"), (int | float, "a number"), (Mapping, "an object"), (bytes | bytearray | memoryview, "bytes"),
             (Sequence, "a list"))  # fmt: skip
    name = type(value).__name__
    article = "an" if name[:1].lower() in "aeiou" else "a"
    return next((word for kind, word in kinds if isinstance(value, kind)), f"{article} {name}")


def parse_json(text: str) -> Any:
    """Parse JSON text inside a row; return None where it is not JSON, or is JSON that `parse_text` refuses."""
    try:
        return parse_text(text)
    except (ValueError, RecursionError, RefusedJson):
        return None
