"""Alpaca: ``instruction``, ``input``, ``output``, with ``system`` and ``history``; also Dolly and self-instruct seed tasks.

Questionable on purpose: instruction and input become one user message, joined by a line break, as serving will see them;
a non-empty input also stays as a column of the conversation, which is how writing Alpaca finds the two parts again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from instil.conversation import Conversation, Message, Place
from instil.data.formats.row_format import (
    ReadOptions,
    RowFormat,
    cannot_hold,
    conversation_of,
    plain_text_of,
    row_of,
    text_in,
)
from instil.data.message_parts import kind_of, parse_json
from instil.errors import DataError, FormatError

_INPUTS = ("input", "context")
_OUTPUTS = ("output", "response", "instances")


def _recognise(row: Any) -> str:
    if not isinstance(row, Mapping) or not isinstance(row.get("instruction"), str):
        return ""
    seen = [key for key in ("instruction", *_INPUTS, *_OUTPUTS) if key in row]
    return f"columns {', '.join(seen)}" if any(key in row for key in _OUTPUTS) else ""


def _read(row: Any, place: Place, options: ReadOptions) -> Sequence[Conversation]:
    if not isinstance(row, Mapping):
        raise DataError(f"{place}: found {kind_of(row)}; expected an object with instruction and output; mend the row")
    instruction = text_in(row, "instruction", place)
    if isinstance(row.get("instances"), list):
        return _read_instances(row, instruction, place)
    output_column = next((key for key in _OUTPUTS if key in row), "output")
    input_column = next((key for key in _INPUTS if key in row), "input")
    given = text_in(row, input_column, place, empty_for_null=True)
    messages = opening(row, place)
    messages.append(Message("user", joined(instruction, given)))
    messages.append(Message("assistant", text_in(row, output_column, place)))
    used = ["instruction", output_column, "history", "system", *(() if given else (input_column,))]
    row = row if not given or input_column == "input" else {**row, "input": given}
    used += ["context"] if input_column == "context" else []
    return (conversation_of(messages, row, used, place),)


def joined(instruction: str, given: str) -> str:
    """Lay an instruction and its input together as one question."""
    return f"{instruction}\n{given}" if instruction and given else instruction or given


def opening(row: Mapping[str, Any], place: Place) -> list[Message]:
    """Read the system text and the earlier exchanges."""
    messages = []
    system = text_in(row, "system", place, empty_for_null=True)
    if system:
        messages.append(Message("system", system))
    history = row.get("history") or []
    if isinstance(history, str):
        history = parse_json(history)
    if not isinstance(history, Sequence):
        raise DataError(f"{place}: history is {kind_of(history)}; expected pairs of texts; mend the row")
    for pair in history:
        if not isinstance(pair, Sequence) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise DataError(
                f"{place}: history holds something else than pairs of texts; expected [asked, answered]; mend it"
            )
        messages += [Message("user", pair[0]), Message("assistant", pair[1])]
    return messages


def _read_instances(row: Mapping[str, Any], instruction: str, place: Place) -> Sequence[Conversation]:
    """Read a seed task: one instruction with several pairs of input and output."""
    made = []
    for number, instance in enumerate(row["instances"]):
        part = Place(place.source, place.row, number)
        if not isinstance(instance, Mapping):
            raise DataError(f"{part}: the instance is {kind_of(instance)}; expected input and output; mend the row")
        given = text_in(instance, "input", part, empty_for_null=True)
        messages = [
            Message("user", joined(instruction, given)),
            Message("assistant", text_in(instance, "output", part)),
        ]
        whole = {**row, **instance}
        made.append(
            conversation_of(
                messages, whole, ["instruction", "instances", "output", *(() if given else ("input",))], part
            )
        )
    if not made:
        raise DataError(f"{place}: instances is empty; expected at least one; remove the row")
    return made


def _write(conversation: Conversation) -> dict[str, Any]:
    messages = list(conversation.messages)
    system = None
    if messages[0].role == "system":
        system = plain_text_of(messages.pop(0), conversation, "alpaca")
    roles = [message.role for message in messages]
    if conversation.plain or not roles or roles != ["user", "assistant"] * (len(roles) // 2) or system == "":
        raise FormatError(cannot_hold(conversation, "alpaca", f"turns in the order {', '.join(roles) or 'none'}"))
    texts = [plain_text_of(message, conversation, "alpaca") for message in messages]
    instruction, given = _parted(texts[-2], conversation.extra.get("input"))
    row: dict[str, Any] = {"instruction": instruction, "input": given, "output": texts[-1]}
    if system is not None:
        row["system"] = system
    if len(texts) > 2:
        row["history"] = [list(pair) for pair in zip(texts[:-2:2], texts[1:-2:2], strict=True)]
    extra = conversation.extra
    if given:
        extra = {key: value for key, value in extra.items() if key != "input"}
    rest = Conversation(
        conversation.messages, conversation.tools, conversation.variables, place=conversation.place, extra=extra
    )
    return row_of(rest, row, target="alpaca", tools_as_text=True)


def _parted(text: str, given: Any) -> tuple[str, str]:
    """Find instruction and input in a user message again, where the conversation still knows its input."""
    if not isinstance(given, str) or not given:
        return text, ""
    if text == given:
        return "", given
    return (text[: -len(given) - 1], given) if text.endswith("\n" + given) else (text, "")


ALPACA = RowFormat("alpaca", "instruction, input, output", _recognise, _read, _write)
