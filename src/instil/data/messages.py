"""Dictionaries to records and back, in the shape that OpenAI's API, fine-tuning files and chat templates share.

Every format reads its rows through here, and `as_conversation` reads conversations written in Python. Keys that no
field holds stay in ``extra``.

Why: reasoning is written as ``reasoning_content``, whatever its key was, and arguments of tool calls as JSON strings,
because most other tools read these. Reading accepts all of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from instil.conversation import EMPTY, ROLES, Conversation, Message, PartWeight, Place, Role, ToolCall
from instil.data.message_parts import Content, kind_of, read_parts, read_tool_calls, read_tools, write_tool_call
from instil.data.message_weights import (
    DETAIL_KEYS,
    WEIGHT_KEYS,
    read_detail,
    read_weight,
    weighted_pieces,
    write_detail,
)
from instil.data.side_columns import system_columns, tools_column, with_system
from instil.errors import DataError, nearest

ROLE_NAMES: Mapping[str, Role] = {**{role: role for role in ROLES}, "function": "tool", "ipython": "tool"}
"""Role names of the messages format."""
_SHAREGPT_ROLES = frozenset({"human", "gpt", "chatgpt", "bing", "bard", "observation", "function_call", "bot"})
_SET_SHAREGPT = "Set data.format: sharegpt if this is a ShareGPT file."
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
_READ_KEYS = frozenset(
    {
        "role",
        "content",
        "tool_calls",
        "function_call",
        "tool_call_id",
        "name",
        *_REASONING_KEYS,
        *WEIGHT_KEYS,
        *DETAIL_KEYS,
    }
)
_VARIABLE_GROUPS = ("template_variables", "chat_template_kwargs")
_VARIABLE_KEYS = ("enable_thinking", "documents")


def message_from_dict(message: Mapping[str, Any], *, number: int = 1, place: Place | str | None = None) -> Message:
    """Read one message.

    Args:
        message: ``role``, ``content`` (text, parts or null), and any of ``reasoning`` / ``reasoning_content`` /
            ``thinking``, ``tool_calls``, ``function_call``, ``tool_call_id``, ``name``,
            ``weight`` / ``loss_weight`` / ``loss`` / ``train`` / ``training``, ``train_detail``.
        number: Number of the message in its conversation, from 1; only for errors.
        place: Place of the conversation; only for errors.

    Raises:
        DataError: If the role is unknown, the message is empty, or a value has the wrong type.

    Example:
        >>> message_from_dict({"role": "assistant", "content": "4", "thinking": "2+2"}).reasoning
        '2+2'
    """
    if not isinstance(message, Mapping):
        raise DataError(
            f"{_where(place, number)} is {kind_of(message)}. Expected a mapping with role and content. Fix the row."
        )
    role_name = message.get("role")
    role = ROLE_NAMES.get(role_name) if isinstance(role_name, str) else None
    content = message.get("content")
    if role is not None and len(message) == 2 and isinstance(content, str):
        return Message(role, content)
    if role is None:
        raise DataError(_unknown_role(message, number, place))
    return _read_message(role, message, number, place)


def _read_message(role: Role, message: Mapping[str, Any], number: int, place: Place | str | None) -> Message:
    where = _where(place, number)
    content = _read_content(role, message.get("content"), where)
    calls: tuple[ToolCall, ...] = ()
    if message.get("tool_calls"):
        calls = read_tool_calls(message["tool_calls"], where=where)
    elif message.get("function_call"):
        calls = read_tool_calls(message["function_call"], where=where)
    reasoning, reasoning_name, weights = _read_reasoning(message, where)
    # Keys of the message take precedence over calls and reasoning among the parts of its content.
    if content is not None:
        calls = calls or content.tool_calls
        weights += tuple(part for part in content.part_weights if part.field != "reasoning" or reasoning is None)
        reasoning = content.reasoning if reasoning is None else reasoning
        weights += read_detail(message, content.content, where=where)
    if content is None and not calls and not reasoning:
        raise DataError(_empty_message(message, where))
    extra = {key: value for key, value in message.items() if key not in _READ_KEYS}
    return Message(
        role,
        None if content is None else content.content,
        reasoning=reasoning,
        tool_calls=calls,
        tool_call_id=_read_text(message, "tool_call_id", where),
        name=_read_text(message, "name", where),
        weight=read_weight(message, where=where),
        extra=extra or EMPTY,
        reasoning_name=reasoning_name,
        part_weights=weights,
    )


def _empty_message(message: Mapping[str, Any], where: str) -> str:
    hint = next((hint for key in message if (hint := _misspelt(key, "content"))), "")
    found = "content null" if "content" in message else f"keys {', '.join(map(str, message))}{hint}"
    return f"{where} has {found}. Expected content, tool_calls or reasoning. Fix the row."


def _read_content(role: Role, content: Any, where: str) -> Content | None:
    if content is None:
        return None
    if isinstance(content, str):
        return Content(content)
    if isinstance(content, list | tuple) and (role != "tool" or _are_parts(content)):
        return read_parts(content, where=where)
    if role == "tool":  # data often holds the result as the JSON value itself
        return Content(json.dumps(content, ensure_ascii=False))
    raise DataError(f"{where} has {kind_of(content)} for content. Expected text or a list of parts. Fix the row.")


def _misspelt(key: str, right: str) -> str:
    """Return a hint if a key looks like a misspelling of another, or an empty string."""
    return f" (did you mean {right!r} instead of {key!r}?)" if nearest(key, [right]) else ""


def _are_parts(content: Sequence[Any]) -> bool:
    return all(isinstance(part, Mapping) and "type" in part for part in content)


def _read_reasoning(message: Mapping[str, Any], where: str) -> tuple[str | None, str | None, tuple[PartWeight, ...]]:
    """Return a message's reasoning, the key that held it, and the weights of its parts, if it is a list of parts.

    If several keys hold it, return ``reasoning``: transformers never fills that key from the others.
    """
    reasoning: str | None = None
    name: str | None = None
    weights: tuple[PartWeight, ...] = ()
    for key in _REASONING_KEYS:
        value = message.get(key)
        if value is None:
            continue
        if isinstance(value, list | tuple):
            parts = read_parts([_as_reasoning(part) for part in value], where=f"{where}: {key}")
            value, weights = parts.reasoning, parts.part_weights
        if not isinstance(value, str):
            raise DataError(f"{where} has {kind_of(value)} for {key}. Expected text. Fix the row.")
        if reasoning and value and value != reasoning:
            raise DataError(
                f"{where} has two different reasonings. Expected one of {', '.join(_REASONING_KEYS)}. Keep one."
            )
        reasoning = reasoning or value
        name = key if name is None or key == "reasoning" else name
    return reasoning, name, weights


def _as_reasoning(part: Any) -> Any:
    """Return a text part as a part of the reasoning."""
    if isinstance(part, str):
        return {"type": "reasoning", "text": part}
    is_text = isinstance(part, Mapping) and part.get("type", "text") == "text"
    return {**part, "type": "reasoning"} if is_text else part


def _read_text(message: Mapping[str, Any], key: str, where: str) -> str | None:
    value = message.get(key)
    if value is None or isinstance(value, str):
        return value
    raise DataError(f"{where} has {kind_of(value)} for {key}. Expected text. Fix the row.")


def _where(place: Place | str | None, number: int) -> str:
    return f"message {number}" if place is None else f"{place}: message {number}"


def _unknown_role(message: Mapping[str, Any], number: int, place: Place | str | None) -> str:
    where = _where(place, number)
    remedy = "Fix the row."
    if "role" not in message:
        keys = ", ".join(map(str, message)) or "nothing"
        if "from" in message:
            remedy = _SET_SHAREGPT
        return f"{where} has keys {keys} but no role. Expected role and content. {remedy}"
    role = message["role"]
    if isinstance(role, str) and role in _SHAREGPT_ROLES:
        remedy = _SET_SHAREGPT
    elif isinstance(role, str) and (hint := nearest(role.strip().lower(), ROLE_NAMES)):
        remedy = f"Fix it{hint}."
    found = repr(role) if isinstance(role, str) else kind_of(role)
    return f"{where} has role {found}. Expected system, developer, user, assistant or tool. {remedy}"


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


def read_messages(messages: Any, *, place: Place | None = None) -> tuple[Message, ...]:
    """Read a list of messages.

    Raises:
        DataError: If it is not a list, is empty, or one message cannot be read.
    """
    where = "conversation" if place is None else str(place)
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        raise DataError(
            f"{where}: found {kind_of(messages)} for messages. Expected a list of role and content. Fix the row."
        )
    if not messages:
        raise DataError(f"{where}: found an empty list of messages. Expected at least one. Remove the row.")
    return tuple(message_from_dict(message, number=n, place=place) for n, message in enumerate(messages, start=1))


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
        return conversation_from_dict(given, place=place)
    where = "" if place is None else f"{place}: "
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise DataError(
            f"{where}found {kind_of(given)}. Expected a Conversation, a list of messages, or a mapping with messages."
        )
    messages = tuple(
        message if isinstance(message, Message) else message_from_dict(message, number=number, place=place)
        for number, message in enumerate(given, start=1)
    )
    if not messages:
        raise DataError(f"{where}found an empty list of messages. Expected at least one.")
    return Conversation(messages, place=place)
