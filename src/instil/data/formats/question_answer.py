"""Question and answer: two columns of text, under the names that data sets use for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from instil.conversation import Conversation, Message, Place
from instil.conversation.message_parts import kind_of
from instil.data.formats.row_format import (
    ReadOptions,
    RowFormat,
    cannot_hold,
    conversation_of,
    plain_text_of,
    row_of,
    system_in,
    text_in,
)
from instil.data.side_columns import SYSTEM_COLUMNS, is_empty
from instil.errors import DataError, FormatError, nearest

PAIRS: tuple[tuple[str, str], ...] = (
    ("question", "answer"),
    ("question", "response"),
    ("question", "std_answer"),
    ("query", "response"),
    ("query", "answer"),
    ("problem", "solution"),
    ("inputs", "targets"),
    ("input", "output"),
    ("user", "assistant"),
)


def _pair(row: Mapping[str, Any]) -> tuple[str, str] | None:
    pairs = [pair for pair in PAIRS if isinstance(row.get(pair[0]), str) and pair[1] in row]
    filled = (pair for pair in pairs if not is_empty(row[pair[0]]) and not is_empty(row[pair[1]]))
    return next(filled, pairs[0] if pairs else None)


def _recognise(row: Any) -> str:
    pair = _pair(row) if isinstance(row, Mapping) else None
    if pair is None or (pair == ("input", "output") and _has_misspelt_instruction(row)):
        return ""
    return f"columns {pair[0]}, {pair[1]}"


def _has_misspelt_instruction(row: Mapping[str, Any]) -> bool:
    """Return whether a row is an Alpaca row that would be read without its instruction."""
    return any(nearest(str(key).lower(), ["instruction"]) for key in row if key not in ("input", "output"))


def _read(row: Any, place: Place, options: ReadOptions) -> Sequence[Conversation]:
    if not isinstance(row, Mapping):
        raise DataError(f"{place}: found {kind_of(row)}. Expected an object with question and answer. Fix the row.")
    pair = _pair(row) or PAIRS[0]
    messages, systems = system_in(row, place)
    messages += [Message("user", text_in(row, pair[0], place)), Message("assistant", text_in(row, pair[1], place))]
    return (conversation_of(messages, row, (*pair, *systems), place),)


def _write(conversation: Conversation) -> dict[str, Any]:
    messages = conversation.messages
    roles = [message.role for message in messages]
    if conversation.plain or roles not in (["user", "assistant"], ["system", "user", "assistant"]):
        raise FormatError(cannot_hold(conversation, "question_answer", f"turns in the order {', '.join(roles)}"))
    *system, question, answer = (plain_text_of(message, conversation, "question_answer") for message in messages)
    if system == [""]:
        raise FormatError(cannot_hold(conversation, "question_answer", "an empty system message"))
    columns = ({"system": system[0]} if system else {}) | {"question": question, "answer": answer}
    return row_of(conversation, columns, target="question_answer", tools_as_text=False)


def _reads(row: Mapping[str, Any]) -> Sequence[str]:
    return (*(_pair(row) or PAIRS[0]), *SYSTEM_COLUMNS)


QUESTION_ANSWER = RowFormat("question_answer", "question, answer", _recognise, _read, _write, _reads)
