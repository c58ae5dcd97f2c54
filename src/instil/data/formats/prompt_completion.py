"""Prompt and completion, each a text or a list of messages.

Rows of KTO also have a ``label``. With true they are read like any other row. With false they are refused, because the
answer must not be learned.

Why: assistant turns in a prompt are context, so they get weight 0. A conversation can be written in this format only if
its turns have these weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from instil.conversation import Conversation, Message, Place
from instil.conversation.message_parts import kind_of
from instil.conversation.message_reading import read_messages
from instil.data.formats.row_format import (
    ReadOptions,
    RowFormat,
    cannot_hold,
    conversation_of,
    filled_column,
    is_list_of,
    row_of,
    system_in,
    text_in,
)
from instil.data.messages import message_to_dict
from instil.data.side_columns import SYSTEM_COLUMNS
from instil.errors import DataError, FormatError

COMPLETIONS = ("completion", "response", "output", "answer")
"""Columns that may hold the completion, in order of precedence."""


def _recognise(row: Any) -> str:
    if not isinstance(row, Mapping) or not isinstance(row.get("prompt"), str | list):
        return ""
    column = filled_column(row, COMPLETIONS) if any(key in row for key in COMPLETIONS) else ""
    if not column or (isinstance(row["prompt"], list) and not is_list_of(row["prompt"], "role")):
        return ""
    return f"columns prompt, {column} with {'text' if isinstance(row['prompt'], str) else 'messages'}"


def _read(row: Any, place: Place, options: ReadOptions) -> Sequence[Conversation]:
    if not isinstance(row, Mapping):
        raise DataError(f"{place}: found {kind_of(row)}. Expected an object with prompt and completion. Fix the row.")
    if _is_judged_bad(row):
        raise DataError(
            f"{place}: has label false: the completion was judged bad. Expected label true, or no label. "
            "Set training.objective: kto, or leave such rows out with data.on_bad_row: skip."
        )
    column = filled_column(row, COMPLETIONS)
    messages, system_names = system_in(row, place)
    used = ["prompt", column, *system_names, "plain"]
    prompt, completion = row.get("prompt"), row.get(column)
    plain = False
    if isinstance(prompt, list):
        messages += [_as_context(message) for message in read_messages(prompt, place=place)]
    else:
        messages.append(Message("user", text_in(row, "prompt", place)))
    if isinstance(completion, list | Mapping):
        messages += read_messages([completion] if isinstance(completion, Mapping) else completion, place=place)
    else:
        messages.append(Message("assistant", text_in(row, column, place)))
        plain = isinstance(prompt, str) and bool(row.get("plain", options.prompt_completion == "plain"))
    return (conversation_of(messages, row, used, place, plain=plain),)


def _is_judged_bad(row: Mapping[str, Any]) -> bool:
    """Return whether a KTO row marks its completion as bad; tables of text hold the label as a word."""
    label = row.get("label")
    return label is False or (isinstance(label, str) and label.strip().lower() == "false")


def _as_context(message: Message) -> Message:
    return replace(message, weight=0.0) if message.role == "assistant" and message.weight is None else message


def _write(conversation: Conversation) -> dict[str, Any]:
    if _is_judged_bad(conversation.extra):
        raise FormatError(cannot_hold(conversation, "prompt_completion", "a column label with the value false"))
    columns = _text_columns(conversation)
    if columns is None and conversation.plain:
        raise FormatError(
            cannot_hold(conversation, "prompt_completion", "plain text of another shape", "Use --to text instead.")
        )
    columns = columns or _message_columns(conversation)
    return row_of(conversation, columns, target="prompt_completion", tools_as_text=False)


def _text_columns(conversation: Conversation) -> dict[str, Any] | None:
    """Return prompt and completion as texts, or None if one question and one answer are not all there is."""
    messages = conversation.messages
    if tuple(message.role for message in messages) != ("user", "assistant"):
        return None
    prompt, completion = messages[0].content, messages[1].content
    has_only_text = all(message == Message(message.role, message.content) for message in messages)
    if not (has_only_text and isinstance(prompt, str) and isinstance(completion, str)):
        return None
    return {"prompt": prompt, "completion": completion} | ({"plain": True} if conversation.plain else {})


def _message_columns(conversation: Conversation) -> dict[str, Any]:
    """Return prompt and completion as lists of messages; the completion starts at the first trained answer."""
    messages = conversation.messages
    start = next((n for n, message in enumerate(messages) if message.role == "assistant" and message.weight != 0), None)
    if not start or any(message.role in ("user", "system", "developer") for message in messages[start:]):
        raise FormatError(
            cannot_hold(
                conversation, "prompt_completion", "trained answers before a later question, or no question and answer"
            )
        )
    prompt = [message_to_dict(_without_context_weight(message)) for message in messages[:start]]
    return {"prompt": prompt, "completion": [message_to_dict(message) for message in messages[start:]]}


def _without_context_weight(message: Message) -> Message:
    return replace(message, weight=None) if message.role == "assistant" else message


def _reads(row: Mapping[str, Any]) -> Sequence[str]:
    return ("prompt", filled_column(row, COMPLETIONS), "label", *SYSTEM_COLUMNS)


PROMPT_COMPLETION = RowFormat("prompt_completion", "prompt, completion", _recognise, _read, _write, _reads)
