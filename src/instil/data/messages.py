"""Dictionaries to records and back: the shape that OpenAI's API, fine-tuning files and chat templates share.

Every format reads its rows through here, and `as_conversation` is how conversations typed in Python enter. Keys that no
field holds stay in ``extra``. Questionable on purpose: reasoning is written as ``reasoning_content`` whatever key it came
under, and arguments of tool calls as JSON strings, because that is what most other tools read; reading takes all of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from instil.conversation import EMPTY, ROLES, Conversation, Message, Place, Role, ToolCall
from instil.data.message_parts import Content, kind_of, read_parts, read_tool_calls, read_tools, write_tool_call
from instil.errors import DataError, nearest

ROLE_NAMES: Mapping[str, Role] = {**{role: role for role in ROLES}, "function": "tool", "ipython": "tool"}
"""Role names of the messages format."""
_SHAREGPT_ROLES = frozenset({"human", "gpt", "chatgpt", "bing", "bard", "observation", "function_call", "bot"})
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
_WEIGHT_KEYS = ("weight", "loss_weight", "loss")
_READ_KEYS = frozenset(
    {"role", "content", "tool_calls", "function_call", "tool_call_id", "name", *_REASONING_KEYS, *_WEIGHT_KEYS}
)
_VARIABLE_GROUPS = ("template_variables", "chat_template_kwargs")
_VARIABLE_KEYS = ("enable_thinking", "documents")


def message_from_dict(given: Mapping[str, Any], *, number: int = 1, place: Place | str | None = None) -> Message:
    """Read one message.

    Args:
        given: ``role``, ``content`` (text, parts or null), and any of ``reasoning`` / ``reasoning_content`` /
            ``thinking``, ``tool_calls``, ``function_call``, ``tool_call_id``, ``name``, ``weight`` / ``loss_weight`` / ``loss``.
        number: Which message of its conversation it is, from 1; only for errors.
        place: Where it stands; only for errors.

    Raises:
        DataError: On an unknown role, a message with nothing in it, or a value of the wrong type.

    Example:
        >>> message_from_dict({"role": "assistant", "content": "4", "thinking": "2+2"}).reasoning
        '2+2'
    """
    if not isinstance(given, Mapping):
        raise DataError(f"{_where(place, number)} is {kind_of(given)}; expected a mapping with role and content")
    spoken = given.get("role")
    role = ROLE_NAMES.get(spoken) if isinstance(spoken, str) else None
    content = given.get("content")
    if role is not None and len(given) == 2 and isinstance(content, str):
        return Message(role, content)
    if role is None:
        raise DataError(_unknown_role(given, number, place))
    return _read_message(role, given, number, place)


def _read_message(role: Role, given: Mapping[str, Any], number: int, place: Place | str | None) -> Message:
    where = _where(place, number)
    read = _read_content(role, given.get("content"), where)
    calls: tuple[ToolCall, ...] = ()
    if given.get("tool_calls"):
        calls = read_tool_calls(given["tool_calls"], where=where)
    elif given.get("function_call"):
        calls = read_tool_calls(given["function_call"], where=where)
    reasoning, reasoning_name = _read_reasoning(given, where)
    if read is not None:
        calls = calls or read.tool_calls
        reasoning = read.reasoning if reasoning is None else reasoning
    if read is None and not calls and not reasoning:
        close = next((hint for key in given if (hint := _misspelt(key, "content"))), "")
        found = "content null" if "content" in given else f"keys {', '.join(map(str, given))}{close}"
        raise DataError(f"{where} has {found}; expected content, tool_calls or reasoning; mend the row")
    extra = {key: value for key, value in given.items() if key not in _READ_KEYS}
    return Message(
        role,
        None if read is None else read.content,
        reasoning=reasoning,
        tool_calls=calls,
        tool_call_id=_read_text(given, "tool_call_id", where),
        name=_read_text(given, "name", where),
        weight=_read_weight(given, where),
        extra=extra or EMPTY,
        reasoning_name=reasoning_name,
    )


def _read_content(role: Role, content: Any, where: str) -> Content | None:
    if content is None:
        return None
    if isinstance(content, str):
        return Content(content)
    if isinstance(content, list | tuple) and (role != "tool" or _are_parts(content)):
        return read_parts(content, where=where)
    if role == "tool":  # results are often given as the JSON value itself
        return Content(json.dumps(content, ensure_ascii=False))
    raise DataError(f"{where} has {kind_of(content)} for content; expected text or a list of parts; mend the row")


def _misspelt(key: str, right: str) -> str:
    return f" (did you mean {right!r} by {key!r}?)" if nearest(key, [right]) else ""


def _are_parts(content: Sequence[Any]) -> bool:
    return all(isinstance(part, Mapping) and "type" in part for part in content)


def _read_reasoning(given: Mapping[str, Any], where: str) -> tuple[str | None, str | None]:
    """Give a message's reasoning and its key; ``reasoning`` among several, for that is the one which transformers gives no other name's text."""
    found: str | None = None
    name: str | None = None
    for key in _REASONING_KEYS:
        value = given.get(key)
        if value is None:
            continue
        if not isinstance(value, str):
            raise DataError(f"{where} has {kind_of(value)} for {key}; expected text; mend the row")
        if found and value and value != found:
            raise DataError(
                f"{where} has two different reasonings; expected one of {', '.join(_REASONING_KEYS)}; keep one"
            )
        found = found or value
        name = key if name is None or key == "reasoning" else name
    return found, name


def _read_weight(given: Mapping[str, Any], where: str) -> float | None:
    found: float | None = None
    for key in _WEIGHT_KEYS:
        value = given.get(key)
        if value is None:
            continue
        if not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
            raise DataError(f"{where} has {key} {value!r}; expected a number of at least 0; mend the row")
        if found is not None and float(value) != found:
            raise DataError(f"{where} has two different weights; expected one of {', '.join(_WEIGHT_KEYS)}; keep one")
        found = float(value)
    return found


def _read_text(given: Mapping[str, Any], key: str, where: str) -> str | None:
    value = given.get(key)
    if value is None or isinstance(value, str):
        return value
    raise DataError(f"{where} has {kind_of(value)} for {key}; expected text; mend the row")


def _where(place: Place | str | None, number: int) -> str:
    return f"message {number}" if place is None else f"{place}: message {number}"


def _unknown_role(given: Mapping[str, Any], number: int, place: Place | str | None) -> str:
    where = _where(place, number)
    if "role" not in given:
        keys = ", ".join(map(str, given)) or "nothing"
        remedy = "set data.format: sharegpt if this is a ShareGPT file" if "from" in given else "mend the row"
        return f"{where} has keys {keys} but no role; expected role and content; {remedy}"
    role = given["role"]
    remedy = "mend the row"
    if isinstance(role, str) and role in _SHAREGPT_ROLES:
        remedy = "set data.format: sharegpt if this is a ShareGPT file"
    elif isinstance(role, str) and nearest(role.strip().lower(), ROLE_NAMES):
        remedy = f"mend it{nearest(role.strip().lower(), ROLE_NAMES)}"
    found = repr(role) if isinstance(role, str) else kind_of(role)
    return f"{where} has role {found}; expected system, developer, user, assistant or tool; {remedy}"


def message_to_dict(message: Message) -> dict[str, Any]:
    """Write a message in OpenAI's shape; `message_from_dict` reads it back to an equal record.

    Example:
        >>> message_to_dict(Message("assistant", "4", reasoning="2+2", weight=0.5))
        {'role': 'assistant', 'content': '4', 'reasoning_content': '2+2', 'weight': 0.5}
    """
    content = message.content
    written: dict[str, Any] = {
        "role": message.role,
        "content": list(content) if isinstance(content, tuple) else content,
    }
    if message.reasoning is not None:
        written["reasoning_content"] = message.reasoning
    if message.tool_calls:
        written["tool_calls"] = [write_tool_call(call) for call in message.tool_calls]
    for key in ("tool_call_id", "name", "weight"):
        value = getattr(message, key)
        if value is not None:
            written[key] = value
    return written | dict(message.extra)


def conversation_from_dict(
    row: Mapping[str, Any], *, place: Place | None = None, messages_key: str = "messages"
) -> Conversation:
    """Read a row of the messages format.

    ``tools`` (or the legacy ``functions``), ``template_variables`` / ``chat_template_kwargs``, ``enable_thinking`` and
    ``documents`` are understood; every other column stays in ``extra``.

    Args:
        row: The row.
        place: Where it came from.
        messages_key: The column that holds the messages.

    Raises:
        DataError: If there are no messages or one cannot be read; the text starts with the place.

    Example:
        >>> conversation_from_dict({"messages": [{"role": "user", "content": "Hi"}], "id": 7}).extra
        {'id': 7}
    """
    messages = read_messages(row.get(messages_key), place=place)
    if len(row) == 1:
        return Conversation(messages, place=place)
    where = "conversation" if place is None else str(place)
    tools_key = "tools" if row.get("tools") or "functions" not in row else "functions"
    tools = read_tools(row.get(tools_key), where=where)
    variables: dict[str, Any] = {}
    for key in _VARIABLE_GROUPS:
        group = row.get(key)
        if group is not None and not isinstance(group, Mapping):
            raise DataError(f"{where}: {key} is {kind_of(group)}; expected a mapping; mend the row")
        variables.update(group or {})
    single = {key: row[key] for key in _VARIABLE_KEYS if row.get(key) is not None}
    variables.update(single)
    used = {messages_key, tools_key, *_VARIABLE_GROUPS, *single, "plain"}
    extra = {key: value for key, value in row.items() if key not in used}
    plain = row.get("plain", False)
    if not isinstance(plain, bool):
        raise DataError(f"{where}: plain is {plain!r}; expected true or false; mend the row")
    return Conversation(messages, tools, variables or EMPTY, place=place, plain=plain, extra=extra or EMPTY)


def read_messages(given: Any, *, place: Place | None = None) -> tuple[Message, ...]:
    """Read a list of messages.

    Raises:
        DataError: If it is no list, is empty, or one message cannot be read.
    """
    where = "conversation" if place is None else str(place)
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise DataError(
            f"{where}: found {kind_of(given)} for messages; expected a list of role and content; mend the row"
        )
    if not given:
        raise DataError(f"{where}: found an empty list of messages; expected at least one; remove the row")
    return tuple(message_from_dict(message, number=n, place=place) for n, message in enumerate(given, start=1))


def conversation_to_dict(conversation: Conversation) -> dict[str, Any]:
    """Write a conversation as a row of the messages format; `conversation_from_dict` reads it back.

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
    return row | dict(conversation.extra)


def as_conversation(
    given: Conversation | Mapping[str, Any] | Iterable[Any], *, place: Place | None = None
) -> Conversation:
    """Take a conversation in any shape that the public API accepts.

    Args:
        given: A `Conversation`; a list of messages (mappings or `Message`); or a mapping with ``messages`` and, where
            wanted, ``tools`` and template variables.
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
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise DataError(
            f"found {kind_of(given)}; expected a Conversation, a list of messages, or a mapping with messages"
        )
    messages = tuple(
        item if isinstance(item, Message) else message_from_dict(item, number=number, place=place)
        for number, item in enumerate(given, start=1)
    )
    if not messages:
        raise DataError("found an empty list of messages; expected at least one")
    return Conversation(messages, place=place)
