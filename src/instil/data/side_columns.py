"""Columns beside the turns of a row: the system text, the tool definitions, and columns that hold nothing.

Every format reads them here, so that a column means the same beside ``messages`` as beside ``conversations``.

Why: only known names are read. A column that looks like a system text or like tool definitions under another name is
left to the user, and `inspect` reports it (`unread_columns`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from instil.conversation import Conversation, Message, Place
from instil.conversation.message_parts import parse_json, read_tools
from instil.errors import DataError

SYSTEM_COLUMNS = ("system", "system_prompt", "system_message", "system_instruction")
TOOL_COLUMNS = (
    "tools",
    "functions",
    "tool_defs",
    "tool_definitions",
    "tool_schemas",
    "available_tools",
    "available_functions",
    "function_definitions",
)
_SYSTEM_NAME = re.compile(r"sys(tem)?[_ -]?(prompt|message|msg|text|instruction|content)?s?", re.IGNORECASE)
_TOOL_NAME = re.compile(r"tool|function", re.IGNORECASE)


def is_empty(value: Any) -> bool:
    """Return whether a column holds nothing: null, an empty list or object, or a text of white space.

    Example:
        >>> is_empty(None), is_empty(" "), is_empty([]), is_empty(0)
        (True, True, True, False)
    """
    if isinstance(value, str):
        return not value or value.isspace()
    return value is None or (isinstance(value, list | Mapping) and not value)


def system_columns(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the columns that hold the system text of a row."""
    return tuple(name for name in SYSTEM_COLUMNS if isinstance(row.get(name), str) and not is_empty(row[name]))


def system_text(row: Mapping[str, Any], place: Place | None) -> str:
    """Return the system text in the columns of a row, or an empty string.

    Raises:
        DataError: If two columns hold different texts.
    """
    names = system_columns(row)
    if len({row[name] for name in names}) > 1:
        where = "conversation" if place is None else str(place)
        raise DataError(f"{where}: has different texts in {' and '.join(names)}. Expected one of them. Fix the row.")
    return str(row[names[0]]) if names else ""


def with_system(messages: Sequence[Message], row: Mapping[str, Any], place: Place | None) -> tuple[Message, ...]:
    """Return the messages with the system text of the row's columns in front.

    The text may be in a column and in the first message, if both are equal.

    Raises:
        DataError: If they are not equal.

    Example:
        >>> with_system([Message("user", "Hi")], {"system": "Be brief."}, None)[0].content
        'Be brief.'
    """
    text = system_text(row, place)
    if not text:
        return tuple(messages)
    if not messages or messages[0].role != "system":
        return (Message("system", text), *messages)
    if _text_of(messages[0]).strip() != text.strip():
        where = "conversation" if place is None else str(place)
        raise DataError(
            f"{where}: has a column {system_columns(row)[0]} and a different system turn. "
            "Expected one of them. Fix the row."
        )
    return tuple(messages)


def _text_of(message: Message) -> str:
    content = message.content
    return content if isinstance(content, str) else "".join(str(part.get("text", "")) for part in content or ())


def tools_column(row: Mapping[str, Any]) -> str:
    """Return the column that holds the tool definitions of a row; ``tools`` where none does.

    ``tools`` has precedence, even if its value is malformed. The other columns count only if they hold definitions.

    Example:
        >>> tools_column({"tools": None, "tool_defs": [{"name": "find", "parameters": {}}]})
        'tool_defs'
    """
    if not is_empty(row.get("tools")) and row["tools"] not in ("null", "[]"):
        return "tools"
    return next((name for name in TOOL_COLUMNS[1:] if name in row and holds_tools(row[name])), "tools")


def holds_tools(value: Any) -> bool:
    """Return whether a value is a list of tool definitions, or JSON text of one.

    Example:
        >>> holds_tools('[{"name": "find"}]'), holds_tools(["find"])
        (True, False)
    """
    if isinstance(value, str):
        value = parse_json(value) if value.lstrip().startswith(("[", "{")) else None
    if isinstance(value, Mapping):
        value = [value]
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_definition, value))


def _is_definition(tool: Any) -> bool:
    if not isinstance(tool, Mapping):
        return False
    function = tool.get("function", tool)
    return isinstance(function, Mapping) and isinstance(function.get("name"), str) and "arguments" not in function


def unread_columns(conversation: Conversation) -> Iterator[tuple[str, str]]:
    """Yield each column that looks like a part of the prompt and that nothing reads: its name, what it looks like."""
    for name, value in conversation.extra.items():
        if is_empty(value):
            continue
        if _is_media(value):
            yield name, "an image or a sound"
        elif _SYSTEM_NAME.fullmatch(name):
            yield name, "a system text"
        elif _TOOL_NAME.search(name) and holds_tools(value) and read_tools(value, where=name) != conversation.tools:
            yield name, "tool definitions"


def _is_media(value: Any) -> bool:
    """Return whether a value is what the datasets library stores an image or a sound as, or a list of them."""
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, Mapping) and isinstance(first.get("bytes"), bytes)
