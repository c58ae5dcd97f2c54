"""The parts of a format, and the columns that all formats share.

A format is a record of three functions: recognise a row, read it, write it. What a target format cannot hold raises a
`FormatError`.

Why: every format reads the columns ``tools`` and ``template_variables``, so that no conversion loses them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from instil.conversation import EMPTY, Conversation, Message, Place
from instil.conversation.message_parts import kind_of, parse_json, read_tools
from instil.data.side_columns import SYSTEM_COLUMNS, is_empty, system_text, tools_column
from instil.errors import DataError, FormatError

Remedies: TypeAlias = Literal["settings", "arguments", "convert"]
"""What the reader of an error can do: set settings of a recipe, give arguments, or read or convert the rows first."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Settings of the recipe that change how rows are read.

    Attributes:
        columns: For pattern rows: role to text with ``{column}`` in it.
        prompt_completion: Whether prompt/completion rows of text are a chat exchange or plain continuation.
        reading: ``sft``: the answer to imitate; ``pairs``: two conversations a pair, chosen and rejected in turns;
            ``judged``: conversations that each end with a good or a bad answer.
        rejected: Of several rejected answers, whether each makes a pair or only the worst.
        remedies: How errors about rows say what to do.
    """

    columns: Mapping[str, str] = field(default=EMPTY)
    prompt_completion: Literal["chat", "plain"] = "chat"
    reading: Literal["sft", "pairs", "judged"] = "sft"
    rejected: Literal["all", "worst"] = "all"
    remedies: Remedies = "settings"


@dataclass(frozen=True, slots=True)
class RowFormat:
    """One outside shape of data.

    Attributes:
        name: Its name in the recipe.
        columns: The columns to expect, for error messages.
        recognise: Returns the evidence (which columns were found), or an empty string if a row is not of this shape.
        read: Returns the conversations of a row, nearly always one.
        write: Returns a conversation as a row, or raises `FormatError` if the row would lose something.
        reads: Returns the columns of a row of this shape that are read by name, for `column_names`.
        write_pair: Returns the chosen and the rejected side of a pair as one row, as `write` does; None if rows hold no pairs.
        holds_side: Whether `write` writes a conversation's side.
    """

    name: str
    columns: str
    recognise: Callable[[Any], str]
    read: Callable[[Any, Place, ReadOptions], Sequence[Conversation]]
    write: Callable[[Conversation], dict[str, Any]]
    reads: Callable[[Mapping[str, Any]], Sequence[str]] = lambda row: ()
    write_pair: Callable[[Conversation, Conversation], dict[str, Any]] | None = None
    holds_side: bool = False


def conversation_of(
    messages: Sequence[Message], row: Mapping[str, Any], used: Sequence[str], place: Place, *, plain: bool = False
) -> Conversation:
    """Build a conversation from its messages and the other columns of the row.

    Args:
        messages: The turns.
        row: The complete row.
        used: Columns that the messages came from.
        place: Where the row came from.
        plain: Whether no template is used.

    Raises:
        DataError: If ``tools`` or ``template_variables`` are malformed.
    """
    rest = {key: value for key, value in row.items() if key not in used}
    if not rest:
        return Conversation(tuple(messages), place=place, plain=plain)
    tools = read_tools(rest.pop(tools_column(rest), None), where=str(place))
    variables: dict[str, Any] = {}
    for key in ("template_variables", "chat_template_kwargs"):
        group = rest.pop(key, None) or {}
        if isinstance(group, str):
            group = parse_mapping(group, column=key, place=place)
        if not isinstance(group, Mapping):
            raise DataError(f"{place}: {key} is {kind_of(group)}. Expected a mapping. Fix the row.")
        variables.update(group)
    return Conversation(tuple(messages), tools, variables or EMPTY, place=place, plain=plain, extra=rest or EMPTY)


def parse_mapping(text: str, *, column: str, place: Place) -> Mapping[str, Any]:
    """Parse a mapping that a table holds as JSON text."""
    value = parse_json(text)
    if not isinstance(value, Mapping):
        raise DataError(f"{place}: {column} is not a JSON object. Expected one. Fix the row.")
    return value


def row_of(
    conversation: Conversation, columns: Mapping[str, Any], *, target: str, tools_as_text: bool
) -> dict[str, Any]:
    """Return one row of a format's own columns and the conversation's tools, variables and other columns.

    Args:
        conversation: The conversation.
        columns: The columns that hold its messages.
        target: Name of the format, for errors.
        tools_as_text: Whether tools are written as JSON text, for formats whose readers expect a string.

    Raises:
        FormatError: If one of the other columns has the name of a column that is written.
    """
    row = dict(columns)
    if conversation.tools:
        tools = [dict(tool) for tool in conversation.tools]
        row["tools"] = json.dumps([_bare(tool) for tool in tools], ensure_ascii=False) if tools_as_text else tools
    if conversation.variables:
        row["template_variables"] = dict(conversation.variables)
    clash = sorted(key for key in row.keys() & conversation.extra.keys() if not is_empty(conversation.extra[key]))
    if clash:
        raise FormatError(
            cannot_hold(conversation, target, f"a column of its own named {clash[0]!r}", "Rename or drop that column.")
        )
    return {**row, **{key: value for key, value in conversation.extra.items() if key not in row}}


def _bare(tool: dict[str, Any]) -> dict[str, Any]:
    """Return the function alone if reading restores the rest of the definition exactly."""
    function = tool.get("function")
    if tool.keys() != {"type", "function"} or tool["type"] != "function" or not isinstance(function, Mapping):
        return tool
    wraps_again = "name" in function and "function" not in function and function.get("type", "function") == "function"
    return dict(function) if wraps_again else tool


def cannot_hold(conversation: Conversation, target: str, what: str, remedy: str = "Use --to messages instead.") -> str:
    """Return the error message for a part of a conversation that a target format cannot hold."""
    return f"{conversation.place or 'conversation'}: has {what}, which {target} cannot hold. Expected none. {remedy}"


def plain_text_of(message: Message, conversation: Conversation, target: str) -> str:
    """Return a message's text, for a format whose turns hold only text.

    Raises:
        FormatError: If the message holds anything besides text.
    """
    other = _beyond_text(message)
    if other:
        article = "an" if message.role == "assistant" else "a"
        raise FormatError(cannot_hold(conversation, target, f"{other} on {article} {message.role} message"))
    assert isinstance(message.content, str)
    return message.content


def _beyond_text(message: Message) -> str:
    """Name something that a message holds besides its text, or return an empty string."""
    if message.reasoning is not None:
        return "reasoning"
    if message.tool_calls:
        return "tool calls"
    if message.weight is not None:
        return "a weight"
    if message.part_weights:
        return "weights of parts"
    if message.name is not None or message.tool_call_id is not None:
        return "a name or call id"
    if message.extra:
        return f"the key {next(iter(message.extra))!r}"
    return "" if isinstance(message.content, str) else "content parts"


def text_in(row: Mapping[str, Any], column: str, place: Place, *, empty_for_null: bool = False) -> str:
    """Return a column's text. An integer is returned as its digits.

    Args:
        row: The row.
        column: Name of the column.
        place: Where the row came from, for errors.
        empty_for_null: Whether a missing or null column counts as empty text.

    Raises:
        DataError: If the column is missing or holds anything else.
    """
    value = row.get(column)
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None and empty_for_null:
        return ""
    raise DataError(f"{place}: column {column!r} holds {kind_of(value)}. Expected text. Fix the row.")


def filled_column(row: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return the first of the columns that holds something, else the first that is there, else the first name.

    Example:
        >>> filled_column({"output": "", "response": "4"}, ("output", "response"))
        'response'
    """
    present = [name for name in names if name in row]
    return next((name for name in present if not is_empty(row[name])), present[0] if present else names[0])


def system_in(row: Mapping[str, Any], place: Place) -> tuple[list[Message], tuple[str, ...]]:
    """Return the system message of a row's columns, if any, and the columns that it takes up.

    Raises:
        DataError: If ``system`` holds something other than text, or two columns hold different texts.
    """
    text = system_text(row, place) or text_in(row, "system", place, empty_for_null=True)
    used = tuple(name for name in SYSTEM_COLUMNS if row.get(name) is None or isinstance(row[name], str | int))
    return ([Message("system", text)] if text else []), used


def is_list_of(value: Any, *keys: str) -> bool:
    """Return whether a value is a list whose first item is a mapping with these keys."""
    return (
        isinstance(value, list)
        and bool(value)
        and isinstance(value[0], Mapping)
        and all(key in value[0] for key in keys)
    )
