"""Alpaca: ``instruction``, ``input``, ``output``, with ``system`` and ``history``.

It also reads Dolly's columns and the seed tasks of self-instruct.

Why: instruction and input become one user message with a line break between them, as the model is prompted when served.
A non-empty input also stays a column of the conversation, so that writing Alpaca can split the message again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from instil.conversation import Conversation, Message, Place
from instil.conversation.message_parts import kind_of, parse_json
from instil.data.formats.row_format import (
    ReadOptions,
    RowFormat,
    cannot_hold,
    conversation_of,
    filled_column,
    plain_text_of,
    row_of,
    system_in,
    text_in,
)
from instil.data.side_columns import SYSTEM_COLUMNS
from instil.errors import DataError, FormatError

_INPUTS = ("input", "context")
_OUTPUTS = ("output", "response", "instances")


def _recognise(row: Any) -> str:
    if not isinstance(row, Mapping) or not isinstance(row.get("instruction"), str):
        return ""
    columns = [key for key in ("instruction", *_INPUTS, *_OUTPUTS) if key in row]
    return f"columns {', '.join(columns)}" if any(key in row for key in _OUTPUTS) else ""


def _read(row: Any, place: Place, options: ReadOptions) -> Sequence[Conversation]:
    if not isinstance(row, Mapping):
        raise DataError(f"{place}: found {kind_of(row)}. Expected an object with instruction and output. Fix the row.")
    instruction = text_in(row, "instruction", place)
    if isinstance(row.get("instances"), list):
        return _read_instances(row, instruction, place)
    output_column = filled_column(row, _OUTPUTS)
    input_column = filled_column(row, _INPUTS)
    task_input = text_in(row, input_column, place, empty_for_null=True)
    messages = opening(row, place)
    messages.append(Message("user", joined(instruction, task_input)))
    messages.append(Message("assistant", text_in(row, output_column, place)))
    used = [
        "instruction",
        output_column,
        "history",
        *system_in(row, place)[1],
        *(() if task_input else (input_column,)),
    ]
    # A non-empty input stays a column under the name ``input``, also where the row calls it ``context``.
    row = row if not task_input or input_column == "input" else {**row, "input": task_input}
    used += ["context"] if input_column == "context" else []
    return (conversation_of(messages, row, used, place),)


def joined(instruction: str, task_input: str) -> str:
    """Return an instruction and its input as one question."""
    return f"{instruction}\n{task_input}" if instruction and task_input else instruction or task_input


def opening(row: Mapping[str, Any], place: Place) -> list[Message]:
    """Return the messages before the last question: the system text and the pairs of ``history``.

    Raises:
        DataError: If ``history`` is not a list of pairs of texts.
    """
    messages, _ = system_in(row, place)
    history = row.get("history") or []
    if isinstance(history, str):
        history = parse_json(history)
    if not isinstance(history, Sequence):
        raise DataError(f"{place}: history is {kind_of(history)}. Expected pairs of texts. Fix the row.")
    for pair in history:
        if not isinstance(pair, Sequence) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise DataError(
                f"{place}: history holds something other than pairs of texts. Expected [question, answer]. Fix the row."
            )
        messages += [Message("user", pair[0]), Message("assistant", pair[1])]
    return messages


def _read_instances(row: Mapping[str, Any], instruction: str, place: Place) -> Sequence[Conversation]:
    """Read a seed task: one instruction with several pairs of input and output."""
    conversations = []
    for number, instance in enumerate(row["instances"]):
        part = replace(place, part=number)
        if not isinstance(instance, Mapping):
            raise DataError(f"{part}: the instance is {kind_of(instance)}. Expected input and output. Fix the row.")
        task_input = text_in(instance, "input", part, empty_for_null=True)
        messages = [
            Message("user", joined(instruction, task_input)),
            Message("assistant", text_in(instance, "output", part)),
        ]
        used = ["instruction", "instances", "output", *(() if task_input else ("input",))]
        conversations.append(conversation_of(messages, {**row, **instance}, used, part))
    if not conversations:
        raise DataError(f"{place}: instances is empty. Expected at least one. Remove the row.")
    return conversations


def _write(conversation: Conversation) -> dict[str, Any]:
    # Alpaca holds one system text and strictly alternating turns, and reads an empty system text as none.
    messages = list(conversation.messages)
    system = None
    if messages[0].role == "system":
        system = plain_text_of(messages.pop(0), conversation, "alpaca")
    roles = [message.role for message in messages]
    if conversation.plain or not roles or roles != ["user", "assistant"] * (len(roles) // 2) or system == "":
        raise FormatError(cannot_hold(conversation, "alpaca", f"turns in the order {', '.join(roles) or 'none'}"))
    texts = [plain_text_of(message, conversation, "alpaca") for message in messages]
    instruction, task_input = _instruction_and_input(texts[-2], conversation.extra.get("input"))
    row: dict[str, Any] = {"instruction": instruction, "input": task_input, "output": texts[-1]}
    if system is not None:
        row["system"] = system
    if len(texts) > 2:
        row["history"] = [list(pair) for pair in zip(texts[:-2:2], texts[1:-2:2], strict=True)]
    extra = conversation.extra
    if task_input:  # it is written as a part of the question, so the column is not another one
        extra = {key: value for key, value in extra.items() if key != "input"}
    return row_of(replace(conversation, extra=extra), row, target="alpaca", tools_as_text=True)


def _instruction_and_input(text: str, task_input: Any) -> tuple[str, str]:
    """Split a user message into instruction and input if the conversation still has its input as a column."""
    if not isinstance(task_input, str) or not task_input:
        return text, ""
    if text == task_input:
        return "", task_input
    return (text[: -len(task_input) - 1], task_input) if text.endswith("\n" + task_input) else (text, "")


def _reads(row: Mapping[str, Any]) -> Sequence[str]:
    columns = filled_column(row, _INPUTS), filled_column(row, _OUTPUTS)
    return ("instruction", *columns, "history", *SYSTEM_COLUMNS)


ALPACA = RowFormat("alpaca", "instruction, input, output", _recognise, _read, _write, _reads)
