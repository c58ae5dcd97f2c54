"""Plain text and code: one column ``text``, ``content`` or ``code``; every token is trained, no template is used."""

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
    text_in,
)
from instil.errors import DataError, FormatError

_COLUMNS = ("text", "content", "code")
_TURN_COLUMNS = frozenset({"role", "from", "parent_id", "replies"})
"""Columns of a row that is one turn of a conversation, whose other turns are in other rows."""


def _column(row: Mapping[str, Any]) -> str:
    return next((key for key in _COLUMNS if isinstance(row.get(key), str)), "")


def _recognise(row: Any) -> str:
    if not isinstance(row, Mapping) or not _TURN_COLUMNS.isdisjoint(row):
        return ""
    column = _column(row)
    return f"column {column} alone" if column else ""


def _read(row: Any, place: Place, options: ReadOptions) -> Sequence[Conversation]:
    if isinstance(row, str):
        row = {"text": row}
    if not isinstance(row, Mapping):
        raise DataError(f"{place}: found {kind_of(row)}. Expected an object with text. Fix the row.")
    column = _column(row) or "text"
    message = Message("assistant", text_in(row, column, place))
    return (conversation_of((message,), row, (column,), place, plain=True),)


def _write(conversation: Conversation) -> dict[str, Any]:
    if not conversation.plain or [message.role for message in conversation.messages] != ["assistant"]:
        remedy = "Use --to messages, or --to chatml-text for the text that a template prints."
        raise FormatError(cannot_hold(conversation, "text", "turns of a conversation", remedy))
    text = plain_text_of(conversation.messages[0], conversation, "text")
    return row_of(conversation, {"text": text}, target="text", tools_as_text=False)


TEXT = RowFormat("text", "text (or content, code)", _recognise, _read, _write)
