"""Preference rows: ``chosen`` is the better answer, ``rejected`` the worse one.

Each may be:

- a text, with the question in ``prompt``,
- a list of messages, complete or continuing those in ``prompt``,
- one ShareGPT turn that follows ``conversations``,
- one text with ``Human:`` and ``Assistant:`` in it, as in the HH-RLHF data set.

For objectives that compare answers, both become conversations (`chosen_rejected`). For supervised fine-tuning
``chosen`` is the answer to learn, and ``rejected`` stays a column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from instil.conversation import Conversation, Message, Place
from instil.conversation.message_parts import kind_of
from instil.conversation.message_reading import read_messages
from instil.data.formats.alpaca import joined, opening
from instil.data.formats.preferences.chosen_rejected import (
    PROMPTS,
    is_openai,
    prompt_names,
    read_sides,
    transcript,
    without_openai_names,
)
from instil.data.formats.preferences.pairs import compared, has_common_prompt, num_common
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
from instil.data.side_columns import SYSTEM_COLUMNS, is_empty, with_system
from instil.errors import DataError, FormatError


def _recognise(row: Any) -> str:
    if not isinstance(row, Mapping):
        return ""
    if row.keys() >= {"chosen", "rejected"}:
        return "columns chosen, rejected"
    return "columns preferred_output, non_preferred_output" if is_openai(row) else ""


def _read(row: Any, place: Place, options: ReadOptions) -> Sequence[Conversation]:
    if not isinstance(row, Mapping):
        raise DataError(f"{place}: found {kind_of(row)}. Expected an object with chosen and rejected. Fix the row.")
    row = without_openai_names(row)
    if options.reading != "sft":
        return compared(*read_sides(row, place), options)
    chosen = row.get("chosen")
    prompt_column = next((key for key in PROMPTS if key in row), "")
    used = ["chosen"]
    if isinstance(chosen, str):
        messages = _read_text(row, chosen, prompt_column, place)
        used += [prompt_column, *(("input", "history") if prompt_column == "instruction" else ())]
    elif isinstance(chosen, Mapping) and (row.get("conversations") or not prompt_column):  # one ShareGPT turn
        turns = [*_turns(row, place), chosen]
        messages = [read_turn(turn, number, place) for number, turn in enumerate(turns, start=1)]
        used.append("conversations")
    else:
        turns = [chosen] if isinstance(chosen, Mapping) else chosen
        messages = list(_read_list(row, turns, prompt_column, place))
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
    turns = transcript(chosen)
    if not turns:
        raise DataError(
            f"{place}: chosen is a text, and there is no prompt. "
            "Expected a column prompt, or Human: and Assistant: turns. Fix the row."
        )
    return turns


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


def _write_pair(chosen: Conversation, rejected: Conversation) -> dict[str, Any]:
    """Return a pair as one row; `PREFERENCE` reads it back.

    The row has the common prompt, and what follows it on both sides. If there is none, or a column of its own is named
    ``prompt``, both sides are complete conversations.

    Raises:
        FormatError: If the two sides differ in more than their messages, or the row would lose something.
    """
    for name in ("tools", "variables", "plain", "extra"):
        if getattr(chosen, name) != getattr(rejected, name):
            raise FormatError(cannot_hold(rejected, "preference", f"other {name} than the chosen side", _EQUAL))
    if chosen.plain:
        raise FormatError(cannot_hold(chosen, "preference", "plain text without turns", "Use --to kto instead."))
    num_prompt = num_common(chosen.messages, rejected.messages)
    prompt = [_unweighted(message, chosen) for message in chosen.messages[:num_prompt]]
    for message in rejected.messages[:num_prompt]:
        _unweighted(message, rejected)
    first, second = (list(map(message_to_dict, side.messages[num_prompt:])) for side in (chosen, rejected))
    if has_common_prompt(chosen, rejected) and is_empty(chosen.extra.get("prompt")):
        columns = {"prompt": prompt, "chosen": first, "rejected": second}
    else:
        columns = {"chosen": [*prompt, *first], "rejected": [*prompt, *second]}
    return row_of(chosen, columns, target="preference", tools_as_text=False)


_EQUAL = "Make them equal, or use --to kto."


def _unweighted(message: Message, conversation: Conversation) -> dict[str, Any]:
    """Return a message of the prompt as a dictionary without its weight, which is 0 in every pair."""
    if message.weight or message.part_weights:
        raise FormatError(
            cannot_hold(conversation, "preference", "a weight in the common prompt", "Set it to 0, or leave it out.")
        )
    return message_to_dict(replace(message, weight=None))


def _reads(row: Mapping[str, Any]) -> Sequence[str]:
    return ("chosen", "rejected", *prompt_names(row), *SYSTEM_COLUMNS)


PREFERENCE = RowFormat("preference", "chosen, rejected", _recognise, _read, _write, _reads, _write_pair)
