"""Conversations to dictionaries and back, in the shape that OpenAI's API and fine-tuning files share.

Every format reads its rows through here, and `as_conversation` reads conversations written in Python.

Why: reasoning is written as ``reasoning_content``, whatever its key was, and arguments of tool calls as JSON strings,
because most other tools read these. Reading accepts all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from instil.conversation import EMPTY, Conversation, Message, PartWeight, Place
from instil.conversation.message_parts import kind_of, read_tools, write_tool_call
from instil.conversation.message_reading import read_messages
from instil.conversation.message_weights import weighted_pieces, write_detail
from instil.data.column_names import row_with_standard_names
from instil.data.side_columns import SYSTEM_COLUMNS, system_columns, tools_column, with_system
from instil.errors import DataError

_VARIABLE_GROUPS = ("template_variables", "chat_template_kwargs")
_VARIABLE_KEYS = ("enable_thinking", "documents")


def message_to_dict(message: Message) -> dict[str, Any]:
    """Return a message in OpenAI's shape; `message_from_dict` reads it back to an equal record.

    Example:
        >>> message_to_dict(Message("assistant", "4", reasoning="2+2", weight=0.5))
        {'role': 'assistant', 'content': '4', 'reasoning_content': '2+2', 'weight': 0.5}
    """
    content = message.content
    written: dict[str, Any] = {"role": message.role, "content": content}
    if isinstance(content, tuple):
        weights = {part.field: part.weight for part in message.part_weights}
        fields = [f"content.{number}.text" for number in range(len(content))]
        written["content"] = [
            {**part, "weight": weights[field]} if field in weights else part
            for field, part in zip(fields, content, strict=True)
        ]
    if message.reasoning is not None:
        written["reasoning_content"] = _written_reasoning(message.reasoning, message.part_weights)
    if message.tool_calls:
        written["tool_calls"] = [write_tool_call(call) for call in message.tool_calls]
    for key in ("tool_call_id", "name", "weight"):
        value = getattr(message, key)
        if value is not None:
            written[key] = value
    in_text = [part for part in message.part_weights if part.field == "content"]
    if in_text and isinstance(content, str):
        written["train_detail"] = write_detail(content, in_text)
    return written | dict(message.extra)


def _written_reasoning(reasoning: str, part_weights: Sequence[PartWeight]) -> str | list[dict[str, Any]]:
    weights = [part for part in part_weights if part.field == "reasoning"]
    if not weights:
        return reasoning
    pieces = weighted_pieces(reasoning, weights)
    return [{"type": "text", "text": reasoning[start:end], "weight": weight} for start, end, weight in pieces]


def conversation_from_dict(
    row: Mapping[str, Any], *, place: Place | None = None, messages_key: str = "messages"
) -> Conversation:
    """Read a row of the messages format.

    It reads ``tools`` (or the legacy ``functions`` and other names, see `side_columns`), ``system``,
    ``template_variables`` / ``chat_template_kwargs``, ``enable_thinking``, ``documents`` and ``plain``. Every other
    column stays in ``extra``.

    Args:
        row: The row.
        place: Where it came from.
        messages_key: The column that holds the messages.

    Raises:
        DataError: If there are no messages or one cannot be read. The message starts with the place.

    Example:
        >>> conversation_from_dict({"messages": [{"role": "user", "content": "Hi"}], "id": 7}).extra
        {'id': 7}
    """
    messages = read_messages(row.get(messages_key), place=place)
    if len(row) == 1:
        return Conversation(messages, place=place)
    where = "conversation" if place is None else str(place)
    # An empty ``tools`` beside another column of definitions stays a column of the row.
    tools_key = tools_column(row)
    if tools_key == "tools" and not row.get("tools") and "functions" in row:
        tools_key = "functions"  # the legacy name; a malformed value is an error there too
    tools = read_tools(row.get(tools_key), where=where)
    variables = _read_variables(row, where)
    plain = row.get("plain", False)
    if not isinstance(plain, bool):
        raise DataError(f"{where}: plain is {plain!r}. Expected true or false. Fix the row.")
    systems = () if plain else system_columns(row)
    if systems:
        messages = with_system(messages, row, place)
    used = {
        messages_key,
        tools_key,
        *systems,
        *_VARIABLE_GROUPS,
        *(key for key in _VARIABLE_KEYS if row.get(key) is not None),
    }
    extra = {key: value for key, value in row.items() if key not in used and key != "plain"}
    return Conversation(messages, tools, variables or EMPTY, place=place, plain=plain, extra=extra or EMPTY)


def _read_variables(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a row's template variables; those with a column of their own override the groups."""
    variables: dict[str, Any] = {}
    for key in _VARIABLE_GROUPS:
        group = row.get(key)
        if group is not None and not isinstance(group, Mapping):
            raise DataError(f"{where}: {key} is {kind_of(group)}. Expected a mapping. Fix the row.")
        variables |= group or {}
    return variables | {key: row[key] for key in _VARIABLE_KEYS if row.get(key) is not None}


def conversation_to_dict(conversation: Conversation) -> dict[str, Any]:
    """Return a conversation as a row of the messages format; `conversation_from_dict` reads it back.

    Example:
        >>> conversation_to_dict(as_conversation([{"role": "user", "content": "Hi"}]))
        {'messages': [{'role': 'user', 'content': 'Hi'}]}
    """
    row: dict[str, Any] = {"messages": [message_to_dict(message) for message in conversation.messages]}
    if conversation.tools:
        row["tools"] = [dict(tool) for tool in conversation.tools]
    if conversation.variables:
        row["template_variables"] = dict(conversation.variables)
    if conversation.plain:
        row["plain"] = True
    return {**row, **{key: value for key, value in conversation.extra.items() if key not in row}}


def as_conversation(
    given: Conversation | Mapping[str, Any] | Iterable[Any], *, place: Place | None = None
) -> Conversation:
    """Return a `Conversation` from any shape that the public API accepts.

    Args:
        given: A `Conversation`; a list of messages (mappings or `Message`); or a mapping with ``messages`` and,
            optionally, ``tools`` and template variables.
        place: Where it came from, for errors and the ledger.

    Raises:
        DataError: If it is none of these.

    Example:
        >>> as_conversation([{"role": "user", "content": "Hi"}]).messages[0].content
        'Hi'
    """
    if isinstance(given, Conversation):
        return given
    if isinstance(given, Mapping):
        row = given if given.get("plain") is True else row_with_standard_names(given, SYSTEM_COLUMNS, place)
        return conversation_from_dict(row, place=place)
    where = "" if place is None else f"{place}: "
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise DataError(
            f"{where}found {kind_of(given)}. Expected a Conversation, a list of messages, or a mapping with messages."
        )
    messages = list(given)
    if not messages:
        raise DataError(f"{where}found an empty list of messages. Expected at least one.")
    return Conversation(read_messages(messages, place=place), place=place)
