"""What every format is made of, and the columns that all of them share.

A format is a record of three functions: does this row look like mine, read it, write it. Questionable on purpose: the
columns ``tools`` and ``template_variables`` are understood in every format, so that conversion into the poorer ones loses
neither; what a target cannot hold at all is refused by `FormatError`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from instil.conversation import EMPTY, Conversation, Message, Place
from instil.data.message_parts import kind_of, parse_json, read_tools
from instil.errors import DataError, FormatError


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a person may say about how rows are read.

    Attributes:
        columns: For pattern rows: role to text with ``{column}`` in it.
        prompt_completion: Whether prompt/completion rows of text are a chat exchange or plain continuation.
    """

    columns: Mapping[str, str] = field(default=EMPTY)
    prompt_completion: Literal["chat", "plain"] = "chat"


@dataclass(frozen=True, slots=True)
class RowFormat:
    """One outside shape of data.

    Attributes:
        name: The word in the recipe.
        columns: The columns a person expects, for messages.
        recognise: Gives the evidence (which columns were seen), or an empty string where a row is not of this shape.
        read: Makes conversations of a row, nearly always one.
        write: Makes a row of a conversation, or raises `FormatError` where it would lose something.
    """

    name: str
    columns: str
    recognise: Callable[[Any], str]
    read: Callable[[Any, Place, ReadOptions], Sequence[Conversation]]
    write: Callable[[Conversation], dict[str, Any]]


def conversation_of(
    messages: Sequence[Message], row: Mapping[str, Any], used: Sequence[str], place: Place, *, plain: bool = False
) -> Conversation:
    """Make a conversation of messages and what else stands in the row.

    Args:
        messages: The turns.
        row: The whole row.
        used: Columns that the messages came from.
        place: Where the row came from.
        plain: Whether no template is used.

    Raises:
        DataError: If ``tools`` or ``template_variables`` are malformed.
    """
    rest = {key: value for key, value in row.items() if key not in used}
    if not rest:
        return Conversation(tuple(messages), place=place, plain=plain)
    tools = read_tools(rest.pop("tools", None), where=str(place))
    variables: dict[str, Any] = {}
    for key in ("template_variables", "chat_template_kwargs"):
        group = rest.pop(key, None) or {}
        if isinstance(group, str):
            group = parse_mapping(group, column=key, place=place)
        if not isinstance(group, Mapping):
            raise DataError(f"{place}: {key} is {kind_of(group)}; expected a mapping; mend the row")
        variables.update(group)
    return Conversation(tuple(messages), tools, variables or EMPTY, place=place, plain=plain, extra=rest or EMPTY)


def parse_mapping(text: str, *, column: str, place: Place) -> Mapping[str, Any]:
    """Parse a mapping that a table holds as JSON text."""
    value = parse_json(text)
    if not isinstance(value, Mapping):
        raise DataError(f"{place}: {column} is not a JSON object; expected one; mend the row")
    return value


def row_of(
    conversation: Conversation, columns: Mapping[str, Any], *, target: str, tools_as_text: bool
) -> dict[str, Any]:
    """Put a conversation's columns, tools, variables and other columns into one row.

    Raises:
        FormatError: If another column of the conversation has the name of one that is written.
    """
    row = dict(columns)
    if conversation.tools:
        tools = [dict(tool) for tool in conversation.tools]
        row["tools"] = json.dumps([_bare(tool) for tool in tools], ensure_ascii=False) if tools_as_text else tools
    if conversation.variables:
        row["template_variables"] = dict(conversation.variables)
    clash = sorted(row.keys() & conversation.extra.keys())
    if clash:
        raise FormatError(
            cannot_hold(conversation, target, f"a column of its own named {clash[0]!r}", "rename or drop that column")
        )
    return row | dict(conversation.extra)


def _bare(tool: dict[str, Any]) -> dict[str, Any]:
    """Give the function alone where reading wraps it again without a loss."""
    function = tool.get("function")
    if tool.keys() != {"type", "function"} or tool["type"] != "function" or not isinstance(function, Mapping):
        return tool
    wraps_again = "name" in function and "function" not in function and function.get("type", "function") == "function"
    return dict(function) if wraps_again else tool


def cannot_hold(conversation: Conversation, target: str, what: str, remedy: str = "") -> str:
    """Say what a target format cannot hold."""
    place = conversation.place or "conversation"
    return f"{place}: has {what}, which {target} cannot hold; expected none; {remedy or 'write --to messages instead'}"


def plain_text_of(message: Message, conversation: Conversation, target: str) -> str:
    """Give a message's text for a format whose turns are nothing but text.

    Raises:
        FormatError: If the message has anything besides text.
    """
    found = _beyond_text(message)
    if found:
        raise FormatError(cannot_hold(conversation, target, f"{found} on {_article(message.role)} message"))
    assert isinstance(message.content, str)
    return message.content


def _article(role: str) -> str:
    return f"an {role}" if role == "assistant" else f"a {role}"


def _beyond_text(message: Message) -> str:
    if message.reasoning is not None:
        return "reasoning"
    if message.tool_calls:
        return "tool calls"
    if message.weight is not None:
        return "a weight"
    if message.name is not None or message.tool_call_id is not None:
        return "a name or call id"
    if message.extra:
        return f"the key {next(iter(message.extra))!r}"
    return "" if isinstance(message.content, str) else "content parts"


def text_in(row: Mapping[str, Any], column: str, place: Place, *, empty_for_null: bool = False) -> str:
    """Give a column's text; whole numbers are read as their digits.

    Raises:
        DataError: If the column is missing or holds something else.
    """
    value = row.get(column)
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None and empty_for_null:
        return ""
    raise DataError(f"{place}: column {column!r} holds {kind_of(value)}; expected text; mend the row")


def is_list_of(value: Any, *keys: str) -> bool:
    """Tell whether a value is a list of mappings whose first has these keys."""
    return (
        isinstance(value, list)
        and bool(value)
        and isinstance(value[0], Mapping)
        and all(key in value[0] for key in keys)
    )
