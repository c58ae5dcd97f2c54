"""Preference rows: ``chosen`` is the answer to learn, ``rejected`` stays a column.

``chosen`` may be:

- a text, with the question in ``prompt``,
- a list of messages, complete or continuing those in ``prompt``,
- one ShareGPT turn that follows ``conversations``,
- one text with ``Human:`` and ``Assistant:`` in it, as in the HH-RLHF data set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from instil.conversation import Conversation, Message, Place
from instil.conversation.message_parts import kind_of
from instil.conversation.message_reading import read_messages
from instil.data.formats.alpaca import joined, opening
from instil.data.formats.row_format import (
    ReadOptions,
    RowFormat,
    cannot_hold,
    conversation_of,
    is_list_of,
    row_of,
    system_in,
    text_in,
)
from instil.data.formats.sharegpt import read_turn
from instil.data.messages import message_to_dict
from instil.data.side_columns import with_system
from instil.errors import DataError, FormatError

_SPEAKER = re.compile(r"\n\n(Human|Assistant): ?")
PROMPTS = ("prompt", "question", "instruction")
"""Columns that may hold the prompt, in order of precedence."""


def _recognise(row: Any) -> str:
    return "columns chosen, rejected" if isinstance(row, Mapping) and {"chosen", "rejected"} <= row.keys() else ""


def _read(row: Any, place: Place, options: ReadOptions) -> Sequence[Conversation]:
    if not isinstance(row, Mapping):
        raise DataError(f"{place}: found {kind_of(row)}. Expected an object with chosen and rejected. Fix the row.")
    chosen = row.get("chosen")
    prompt_column = next((key for key in PROMPTS if key in row), "")
    used = ["chosen"]
    if isinstance(chosen, str):
        messages = _read_text(row, chosen, prompt_column, place)
        used += [prompt_column, *(("input", "history") if prompt_column == "instruction" else ())]
    elif isinstance(chosen, Mapping):  # one ShareGPT turn
        turns = [*_turns(row, place), chosen]
        messages = [read_turn(turn, number, place) for number, turn in enumerate(turns, start=1)]
        used.append("conversations")
    else:
        messages = list(_read_list(row, chosen, prompt_column, place))
        if isinstance(row.get("prompt"), list):  # a prompt of text stays a column beside the messages
            used.append("prompt")
    used += system_in(row, place)[1]
    return (conversation_of(with_system(messages, row, place), row, used, place),)


def _turns(row: Mapping[str, Any], place: Place) -> list[Any]:
    turns = row.get("conversations") or []
    if not isinstance(turns, list):
        raise DataError(f"{place}: conversations is {kind_of(turns)}. Expected the turns before chosen. Fix the row.")
    return turns


def _read_text(row: Mapping[str, Any], chosen: str, prompt_column: str, place: Place) -> list[Message]:
    if prompt_column == "instruction":
        question = joined(text_in(row, prompt_column, place), text_in(row, "input", place, empty_for_null=True))
        return [*opening(row, place), Message("user", question), Message("assistant", chosen)]
    if prompt_column:
        return [Message("user", text_in(row, prompt_column, place)), Message("assistant", chosen)]
    # HH-RLHF: the pieces are what precedes the first speaker, then speaker and text in turns.
    pieces = _SPEAKER.split(chosen)
    if len(pieces) < 5 or pieces[0].strip():
        raise DataError(
            f"{place}: chosen is a text, and there is no prompt. "
            "Expected a column prompt, or Human: and Assistant: turns. Fix the row."
        )
    return [
        Message("user" if speaker == "Human" else "assistant", text)
        for speaker, text in zip(pieces[1::2], pieces[2::2], strict=True)
    ]


def _read_list(row: Mapping[str, Any], chosen: Any, prompt_column: str, place: Place) -> Sequence[Message]:
    if is_list_of(chosen, "from"):
        return [read_turn(turn, number, place) for number, turn in enumerate(chosen, start=1)]
    if not isinstance(chosen, list | tuple):
        raise DataError(f"{place}: column 'chosen' holds {kind_of(chosen)}. Expected text or turns. Fix the row.")
    answer = read_messages(chosen, place=place)
    prompt = row.get(prompt_column)
    if isinstance(prompt, list) and prompt:
        before = read_messages(prompt, place=place)
        # ``chosen`` may hold the complete conversation, prompt included, or only what follows the prompt.
        return answer if answer[: len(before)] == before else (*before, *answer)
    if answer[0].role == "assistant" and isinstance(prompt, str):
        return (Message("user", prompt), *answer)
    return answer


def _write(conversation: Conversation) -> dict[str, Any]:
    if "rejected" not in conversation.extra:
        raise FormatError(cannot_hold(conversation, "preference", "no rejected answer"))
    if conversation.plain:
        raise FormatError(cannot_hold(conversation, "preference", "plain text without turns"))
    chosen = [message_to_dict(message) for message in conversation.messages]
    return row_of(conversation, {"chosen": chosen}, target="preference", tools_as_text=False)


PREFERENCE = RowFormat("preference", "chosen, rejected", _recognise, _read, _write)
