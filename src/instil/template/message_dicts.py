"""Turn records into the dictionaries that templates read, with or without origins.

Templates expect different inputs: reasoning under several names, tool-call arguments as a mapping or as JSON text,
content as text or as parts. A `Shape` describes the input of one template; `ChatTemplate` finds it once, with probes.

Why: as in transformers (`_alias_reasoning_fields`), reasoning is always passed as ``thinking`` and
``reasoning_content``. Other names are added only if a template reads neither, and ``reasoning`` if the data has it. So
message dictionaries render exactly as transformers renders them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from instil.conversation import Message, ToolCall
from instil.template.quoting import TracedDict, TracedList
from instil.template.traced_text import TracedStr, joined


@dataclass(frozen=True, slots=True)
class Shape:
    """The input that a template expects.

    Attributes:
        content: ``text``: only text, and parts are joined by line breaks, as servers do. ``parts``: only parts.
            ``both``: whichever the data has.
        no_content: Content of a turn that is only a tool call: ``absent``, or ``empty`` if the template requires one.
        arguments: Whether a call's arguments are passed as a ``mapping`` or as JSON ``text``.
        call: ``nested``: name and arguments are under ``function``. ``flat``: they are beside it too.
        reasoning_keys: Names, besides the standard two, under which reasoning is passed.
        reasoning_part: Whether reasoning is passed as a part of the content (``{"type": "thinking", …}``).
        developer: The role that developer messages are passed with: ``system`` if the template knows only that.
    """

    content: Literal["text", "parts", "both"] = "both"
    no_content: Literal["absent", "empty"] = "absent"
    arguments: Literal["mapping", "text"] = "mapping"
    call: Literal["nested", "flat"] = "nested"
    reasoning_keys: tuple[str, ...] = ()
    reasoning_part: bool = False
    developer: Literal["developer", "system"] = "developer"


def traced_value(value: Any, message: int, field: str) -> Any:
    """Return a copy of a JSON-like value whose strings know the field that they come from."""
    if isinstance(value, str):
        return TracedStr(value, ((0, len(value), (message, field), 0),)) if value else ""
    if isinstance(value, Mapping):
        return TracedDict(
            (traced_value(key, message, f"{field}.{key}.key"), traced_value(item, message, f"{field}.{key}"))
            for key, item in value.items()
        )
    if isinstance(value, list | tuple):
        return TracedList(traced_value(item, message, f"{field}.{index}") for index, item in enumerate(value))
    return value


def plain_value(value: Any, message: int = 0, field: str = "") -> Any:
    """Return a copy of a JSON-like value in plain dictionaries and lists."""
    if isinstance(value, Mapping):
        return {key: plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    return value


def texts_given(message: Message, index: int, shape: Shape) -> list[tuple[str, str]]:
    """Return the texts of a message's content and tool calls, with their fields, as the template receives them.

    Example:
        >>> texts_given(Message("assistant", "Hi", tool_calls=(ToolCall("f", {"a": "b"}),)), 1, Shape())[1:]
        [('tool_calls.0.name', 'f'), ('tool_calls.0.arguments.a.key', 'a'), ('tool_calls.0.arguments.a', 'b')]
    """
    content = message.content
    if isinstance(content, str):
        texts = [("content", content)]
    else:
        parts = enumerate(content or ())
        texts = [(f"content.{at}.text", part["text"]) for at, part in parts if isinstance(part.get("text"), str)]
    for number, call in enumerate(message.tool_calls):
        field = f"tool_calls.{number}"
        given = _call(call, index, field, shape, plain_value)["function"]
        texts.append((f"{field}.name", given["name"]))
        texts += located_texts(given["arguments"], f"{field}.arguments")
    return texts


def located_texts(value: Any, field: str) -> Iterator[tuple[str, str]]:
    """Yield every string in a JSON-like value, keys included, with the field that `traced_value` gives it.

    Example:
        >>> list(located_texts({"a": ["b", 1]}, "tools.0"))
        [('tools.0.a.key', 'a'), ('tools.0.a.0', 'b')]
    """
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield f"{field}.{key}.key", str(key)
            yield from located_texts(item, f"{field}.{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from located_texts(item, f"{field}.{number}")


def to_template_messages(messages: Sequence[Message], *, shape: Shape, traced: bool = True) -> list[dict[str, Any]]:
    """Return the dictionaries that a template reads.

    Args:
        messages: The turns.
        shape: The input that the template expects.
        traced: Whether strings know their origins.

    Example:
        >>> to_template_messages([Message("user", "Hi")], shape=Shape(), traced=False)
        [{'role': 'user', 'content': 'Hi'}]
    """
    value = traced_value if traced else plain_value
    return [_to_dict(message, index, shape, value) for index, message in enumerate(messages)]


def _to_dict(message: Message, index: int, shape: Shape, value: Any) -> dict[str, Any]:
    # Templates that print a dictionary show the order of its keys. It is the order in which transformers has them:
    # ``thinking`` first, then the message, then the other names of reasoning.
    given: dict[str, Any] = {}
    reasoning = None if message.reasoning is None else value(message.reasoning, index, "reasoning")
    if reasoning is not None and not shape.reasoning_part:
        given["thinking"] = reasoning
    given["role"] = shape.developer if message.role == "developer" else message.role
    if message.content is not None:
        given["content"] = _content(value(message.content, index, "content"), shape)
    elif shape.no_content == "empty":
        given["content"] = ""
    if message.tool_calls:
        given["tool_calls"] = TracedList(
            _call(call, index, f"tool_calls.{number}", shape, value) for number, call in enumerate(message.tool_calls)
        )
    if message.tool_call_id is not None:
        given["tool_call_id"] = value(message.tool_call_id, index, "tool_call_id")
    if message.name is not None:
        given["name"] = value(message.name, index, "name")
    for key, extra in message.extra.items():
        if extra is not None:
            given[key] = value(extra, index, key)
    if reasoning is not None:
        if shape.reasoning_part:
            _put_reasoning_part(given, reasoning)
        else:
            given["reasoning_content"] = reasoning
            given.update(dict.fromkeys(_further_names(message, shape), reasoning))
    return given


def _further_names(message: Message, shape: Shape) -> tuple[str, ...]:
    """Return the names of reasoning besides the standard two.

    As in transformers, ``reasoning`` is one of them only if the data has it.
    """
    if message.reasoning_name is None:
        return shape.reasoning_keys
    others = tuple(key for key in shape.reasoning_keys if key != "reasoning")
    return (*others, "reasoning") if message.reasoning_name == "reasoning" else others


def _content(content: Any, shape: Shape) -> Any:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if shape.content == "parts" else content
    if shape.content == "text" and all(part.get("type") == "text" for part in content):
        lines = [part.get("text", "") for part in content]
        return joined([piece for line in lines for piece in ("\n", line)][1:])
    return content


def _put_reasoning_part(given: dict[str, Any], reasoning: str) -> None:
    content = given.get("content") or []
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    given["content"] = [{"type": "thinking", "thinking": reasoning}, *parts]


def _call(call: ToolCall, index: int, field: str, shape: Shape, value: Any) -> dict[str, Any]:
    arguments: Any = call.arguments
    if shape.arguments == "text" and not isinstance(arguments, str):
        arguments = json.dumps(plain_value(arguments), ensure_ascii=False)
    function = TracedDict(
        name=value(call.name, index, f"{field}.name"), arguments=value(arguments, index, f"{field}.arguments")
    )
    made = TracedDict() if call.id is None else TracedDict(id=value(call.id, index, f"{field}.id"))
    made["type"] = "function"
    made["function"] = function
    if shape.call == "flat":
        made.update(function)
    return made
