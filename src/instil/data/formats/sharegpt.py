"""ShareGPT in its variants: ``conversations`` of ``from``/``value`` or ``role``/``content``.

The columns ``system`` and ``tools`` (JSON text) are those of LLaMA-Factory.

Why: reasoning, weights, names and text beside a tool call are written as further keys of the turn. They read back
exactly, but other programs that know only ``from`` and ``value`` ignore them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from instil.conversation import Conversation, Message, Place, Role, ToolCall
from instil.conversation.message_parts import kind_of, parse_json
from instil.conversation.message_reading import message_from_dict
from instil.data.formats.row_format import (
    ReadOptions,
    RowFormat,
    cannot_hold,
    conversation_of,
    is_list_of,
    row_of,
)
from instil.data.messages import message_to_dict
from instil.data.side_columns import SYSTEM_COLUMNS, with_system
from instil.errors import DataError, FormatError, nearest

ROLES: Mapping[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "system": "system",
    "developer": "developer",
    "observation": "tool",
    "tool": "tool",
    "function": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "ipython": "tool",
}
_CALLS = frozenset({"function_call", "tool_call"})
_WRITTEN: Mapping[Role, str] = {
    "user": "human",
    "assistant": "gpt",
    "system": "system",
    "developer": "developer",
    "tool": "observation",
}
_COLUMNS = ("conversations", "conversation", "messages", "history")


def _recognise(row: Any) -> str:
    if isinstance(row, list):
        return "a bare list of from and value" if is_list_of(row, "from") else ""
    column = _column(row)
    if not column:
        return ""
    turns = row[column]
    if isinstance(turns, str):
        return f"column {column} with turns as JSON text"
    kinds = (("from", "from and value"), ("output", "input and output"))
    keys = next((words for key, words in kinds if is_list_of(turns, key)), "role and content")
    return f"column {column} with {keys}"


def _column(row: Mapping[str, Any]) -> str:
    """Return the column that holds the turns, or an empty string."""
    for key in _COLUMNS:
        if is_list_of(row.get(key), "from"):
            return key
    for key in ("conversations", "conversation", "messages"):  # messages: only with data.format: sharegpt
        if isinstance(row.get(key), list):
            return key
    for key in ("conversations", "conversation"):  # tables hold the list as JSON text
        if isinstance(row.get(key), str) and row[key].lstrip().startswith("["):
            return key
    columns = [key for key, value in row.items() if is_list_of(value, "from", "value")]
    return columns[0] if len(columns) == 1 else ""


def _read(row: Any, place: Place, options: ReadOptions) -> Sequence[Conversation]:
    if isinstance(row, list):
        row = {"conversations": row}
    if not isinstance(row, Mapping):
        raise DataError(f"{place}: found {kind_of(row)}. Expected an object with conversations. Fix the row.")
    column = _column(row)
    if not column:
        keys = ", ".join(map(str, row))
        raise DataError(
            f"{place}: found columns {keys}. Expected conversations with from and value. Set data.format: auto."
        )
    messages = _read_turns(row[column], column, place)
    used = [column, *(name for name in SYSTEM_COLUMNS if isinstance(row.get(name), str))]
    return (conversation_of(with_system(messages, row, place), row, used, place),)


def _read_turns(turns: Any, column: str, place: Place) -> list[Message]:
    if isinstance(turns, str):
        turns = parse_json(turns)
    if not isinstance(turns, list):
        raise DataError(f"{place}: {column} is not a list of turns. Expected from and value. Fix the row.")
    if not turns:
        raise DataError(f"{place}: found an empty list of turns. Expected at least one. Remove the row.")
    messages: list[Message] = []
    for number, turn in enumerate(turns, start=1):
        messages += _read_exchange(turn, number, place) or [read_turn(turn, number, place)]
    return messages


def _read_exchange(turn: Any, number: int, place: Place) -> list[Message]:
    """Read a turn of ``input``, ``output`` and optionally ``system``, as XTuner writes it; empty for any other turn."""
    if not isinstance(turn, Mapping) or "output" not in turn or not turn.keys().isdisjoint(("from", "role")):
        return []
    pairs: tuple[tuple[str, Role], ...] = (("system", "system"), ("input", "user"), ("output", "assistant"))
    for key, _ in pairs:
        if not isinstance(turn.get(key, ""), str):
            raise DataError(
                f"{place}: message {number} has {kind_of(turn[key])} for {key}. Expected text. Fix the row."
            )
    rest = {key: value for key, value in turn.items() if key not in dict(pairs)}
    messages = [Message(role, turn[key]) for key, role in pairs if turn.get(key) or role == "assistant"]
    if not rest:
        return messages
    answer = {**rest, "role": "assistant", "content": turn["output"]}
    return [*messages[:-1], message_from_dict(answer, number=number, place=place)]


def read_turn(turn: Any, number: int, place: Place | str) -> Message:
    """Read one turn of ``from``/``value`` or ``role``/``content``.

    Args:
        turn: The turn.
        number: Its number in the conversation, from 1; only for errors.
        place: Where the row came from; only for errors.

    Raises:
        DataError: If the speaker is unknown or the turn is empty.
    """
    where = f"{place}: message {number}"
    if not isinstance(turn, Mapping):
        raise DataError(f"{where} is {kind_of(turn)}. Expected a mapping with from and value. Fix the row.")
    speaker = turn.get("from", turn.get("role"))
    role = ROLES.get(speaker.strip().lower()) if isinstance(speaker, str) else None
    if role is None:
        raise DataError(_unknown_speaker(turn, speaker, where))
    speaker_key, text_key = ("from" if "from" in turn else "role"), ("value" if "value" in turn else "content")
    text = turn.get(text_key)
    # Without text a turn needs another key that holds something; `message_from_dict` checks it.
    if text is None and "from" in turn and turn.keys().isdisjoint(("tool_calls", "reasoning_content", "content")):
        raise DataError(_no_text(turn, where))
    is_call = str(speaker).lower() in _CALLS
    if len(turn) == 2 and isinstance(text, str) and not is_call:
        return Message(role, text)
    rest = {key: value for key, value in turn.items() if key not in (speaker_key, text_key)}
    # The text of a call is the call itself. Text beside it, if any, is under ``content``.
    message = {"content": None, **rest, "tool_calls": text} if is_call else {**rest, "content": text}
    return message_from_dict({**message, "role": role}, number=number, place=place)


def _no_text(turn: Mapping[str, Any], where: str) -> str:
    close = next((key for key in turn if key != "value" and nearest(key, ["value"])), None)
    hint = "" if close is None else f" (did you mean 'value' instead of {close!r}?)"
    return f"{where} has keys {', '.join(map(str, turn))}{hint}. Expected a text under value. Fix the row."


def _unknown_speaker(turn: Mapping[str, Any], speaker: Any, where: str) -> str:
    if speaker is None:
        keys = ", ".join(map(str, turn))
        hint = " (did you mean 'from' instead of 'form'?)" if "form" in turn else ""
        return f"{where} has keys {keys} but no speaker{hint}. Expected from and value. Fix the row."
    hint = nearest(speaker, ROLES) if isinstance(speaker, str) else ""
    return f"{where} is from {speaker!r}{hint}. Expected {', '.join(ROLES)}. Fix the row."


def _write(conversation: Conversation) -> dict[str, Any]:
    if conversation.plain:
        raise FormatError(cannot_hold(conversation, "sharegpt", "plain text without turns", "Use --to text instead."))
    turns = [_write_turn(message, conversation) for message in conversation.messages]
    return row_of(conversation, {"conversations": turns}, target="sharegpt", tools_as_text=True)


def _write_turn(message: Message, conversation: Conversation) -> dict[str, Any]:
    rest = message_to_dict(message)  # the keys that are written beside ``from`` and ``value``
    clash = {"from", "value"} & message.extra.keys()
    if clash:
        raise FormatError(
            cannot_hold(conversation, "sharegpt", f"a message with a key of its own named {min(clash)!r}")
        )
    del rest["role"]
    if message.tool_calls and message.role == "assistant":
        del rest["tool_calls"]
        calls = [_write_call(call) for call in message.tool_calls]
        turn = {
            "from": "function_call",
            "value": json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False),
        }
        if rest["content"] is None:
            del rest["content"]
        return turn | rest
    return {"from": _WRITTEN[message.role], "value": rest.pop("content")} | rest


def _write_call(call: ToolCall) -> dict[str, Any]:
    arguments = call.arguments if isinstance(call.arguments, str) else dict(call.arguments)
    call_id = {} if call.id is None else {"id": call.id}
    return call_id | {"name": call.name, "arguments": arguments} | dict(call.extra)


def _reads(row: Mapping[str, Any]) -> Sequence[str]:
    return SYSTEM_COLUMNS


SHAREGPT = RowFormat("sharegpt", "conversations: [{from, value}]", _recognise, _read, _write, _reads)
