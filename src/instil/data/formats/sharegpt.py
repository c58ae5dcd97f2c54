"""ShareGPT in its real variants: ``conversations`` of ``from``/``value`` or ``role``/``content``.

Columns ``system`` and ``tools`` (JSON text) as LLaMA-Factory has them. Questionable on purpose: reasoning, weights, names
and text beside a tool call are written as further keys of the turn. They are read back exactly; tools that know only
``from`` and ``value`` do not see them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from instil.conversation import Conversation, Message, Place, Role, ToolCall
from instil.data.formats.row_format import (
    ReadOptions,
    RowFormat,
    cannot_hold,
    conversation_of,
    is_list_of,
    row_of,
)
from instil.data.message_parts import kind_of, parse_json
from instil.data.messages import message_from_dict, message_to_dict
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
    if isinstance(row[column], str):
        return f"column {column} with turns as JSON text"
    kinds = (("from", "from and value"), ("output", "input and output"))
    return f"column {column} with {next((words for key, words in kinds if is_list_of(row[column], key)), 'role and content')}"


def _column(row: Mapping[str, Any]) -> str:
    for key in _COLUMNS:
        if is_list_of(row.get(key), "from"):
            return key
    for key in ("conversations", "conversation", "messages"):  # messages: where a person says that it is ShareGPT
        if isinstance(row.get(key), list):
            return key
    for key in ("conversations", "conversation"):  # tables hold the list as JSON text
        if isinstance(row.get(key), str) and row[key].lstrip().startswith("["):
            return key
    named = [key for key, value in row.items() if is_list_of(value, "from", "value")]
    return named[0] if len(named) == 1 else ""


def _read(row: Any, place: Place, options: ReadOptions) -> Sequence[Conversation]:
    if isinstance(row, list):
        row = {"conversations": row}
    if not isinstance(row, Mapping):
        raise DataError(f"{place}: found {kind_of(row)}; expected an object with conversations; mend the row")
    column = _column(row)
    if not column:
        keys = ", ".join(map(str, row))
        raise DataError(
            f"{place}: found columns {keys}; expected conversations with from and value; set data.format: auto"
        )
    turns = parse_json(row[column]) if isinstance(row[column], str) else row[column]
    if not isinstance(turns, list):
        raise DataError(f"{place}: {column} is no list of turns; expected from and value; mend the row")
    if not turns:
        raise DataError(f"{place}: found an empty list of turns; expected at least one; remove the row")
    messages: list[Message] = []
    for number, turn in enumerate(turns, start=1):
        messages += _read_exchange(turn, number, place) or [read_turn(turn, number, place)]
    used = [column]
    system = row.get("system")
    if isinstance(system, str):
        used.append("system")
        if system and messages[0].role == "system" and messages[0].content != system:
            raise DataError(f"{place}: has a column system and another system turn; expected one of them; mend the row")
        if system and messages[0].role != "system":
            messages.insert(0, Message("system", system))
    return (conversation_of(messages, row, used, place),)


def _read_exchange(turn: Any, number: int, place: Place) -> list[Message]:
    """Read a turn of ``input``, ``output`` and perhaps ``system``, as XTuner writes them; nothing where it is none."""
    if not isinstance(turn, Mapping) or "output" not in turn or not turn.keys().isdisjoint(("from", "role")):
        return []
    pairs: tuple[tuple[str, Role], ...] = (("system", "system"), ("input", "user"), ("output", "assistant"))
    for key, _ in pairs:
        if not isinstance(turn.get(key, ""), str):
            raise DataError(
                f"{place}: message {number} has {kind_of(turn[key])} for {key}; expected text; mend the row"
            )
    rest = {key: value for key, value in turn.items() if key not in dict(pairs)}
    spoken = [Message(role, turn[key]) for key, role in pairs if turn.get(key) or role == "assistant"]
    return [*spoken[:-1], replace(spoken[-1], extra=rest)] if rest else spoken


def read_turn(turn: Any, number: int, place: Place) -> Message:
    """Read one turn of ``from``/``value`` or ``role``/``content``.

    Raises:
        DataError: On an unknown speaker, or a turn that holds nothing.
    """
    where = f"{place}: message {number}"
    if not isinstance(turn, Mapping):
        raise DataError(f"{where} is {kind_of(turn)}; expected a mapping with from and value; mend the row")
    speaker = turn.get("from", turn.get("role"))
    role = ROLES.get(speaker.strip().lower()) if isinstance(speaker, str) else None
    if role is None:
        raise DataError(_unknown_speaker(turn, speaker, where))
    name_key, text_key = ("from" if "from" in turn else "role"), ("value" if "value" in turn else "content")
    text = turn.get(text_key)
    if text is None and "from" in turn and turn.keys().isdisjoint(("tool_calls", "reasoning_content", "content")):
        close = next(
            (f" (did you mean 'value' by {key!r}?)" for key in turn if key != "value" and nearest(key, ["value"])), ""
        )
        raise DataError(
            f"{where} has keys {', '.join(map(str, turn))}{close}; expected a text under value; mend the row"
        )
    if len(turn) == 2 and isinstance(text, str) and str(speaker).lower() not in _CALLS:
        return Message(role, text)
    rest = {key: value for key, value in turn.items() if key not in (name_key, text_key)}
    if str(speaker).lower() not in _CALLS:
        return message_from_dict({**rest, "role": role, "content": text}, number=number, place=place)
    return message_from_dict({"content": None, **rest, "role": role, "tool_calls": text}, number=number, place=place)


def _unknown_speaker(turn: Mapping[str, Any], speaker: Any, where: str) -> str:
    if speaker is None:
        keys = ", ".join(map(str, turn))
        close = " (did you mean 'from' by 'form'?)" if "form" in turn else ""
        return f"{where} has keys {keys} but nobody it is from{close}; expected from and value; mend the row"
    hint = nearest(speaker, ROLES) if isinstance(speaker, str) else ""
    return f"{where} is from {speaker!r}{hint}; expected {', '.join(ROLES)}; mend the row"


def _write(conversation: Conversation) -> dict[str, Any]:
    if conversation.plain:
        raise FormatError(cannot_hold(conversation, "sharegpt", "plain text without turns", "write --to text instead"))
    turns = [_write_turn(message, conversation) for message in conversation.messages]
    return row_of(conversation, {"conversations": turns}, target="sharegpt", tools_as_text=True)


def _write_turn(message: Message, conversation: Conversation) -> dict[str, Any]:
    rest = message_to_dict(message)
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
    identity = {} if call.id is None else {"id": call.id}
    return identity | {"name": call.name, "arguments": arguments} | dict(call.extra)


SHAREGPT = RowFormat("sharegpt", "conversations: [{from, value}]", _recognise, _read, _write)
