"""Read messages from dictionaries, in the shape that OpenAI's API, fine-tuning files and chat templates share.

Every format reads its messages through here. Keys that no field holds stay in ``extra``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from instil.conversation.message import EMPTY, ROLES, Message, PartWeight, Role, ToolCall
from instil.conversation.message_parts import Content, kind_of, read_parts, read_tool_calls
from instil.conversation.message_weights import DETAIL_KEYS, WEIGHT_KEYS, read_detail, read_weight
from instil.conversation.place import Place
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


def read_messages(messages: Any, *, place: Place | None = None) -> tuple[Message, ...]:
    """Read a list of messages; a `Message` among them stays as it is.

    Raises:
        DataError: If it is not a list, is empty, or one message cannot be read.
    """
    where = "conversation" if place is None else str(place)
    if isinstance(messages, str | bytes | Mapping | Set) or not isinstance(messages, Iterable):
        raise DataError(
            f"{where}: found {kind_of(messages)} for messages. Expected a list of role and content. Fix the row."
        )
    read = tuple(
        message if isinstance(message, Message) else message_from_dict(message, number=number, place=place)
        for number, message in enumerate(messages, start=1)
    )
    if not read:
        raise DataError(f"{where}: found an empty list of messages. Expected at least one. Remove the row.")
    return read
