"""The messages format: ``{"messages": [{"role": …, "content": …}]}``, OpenAI's fine-tuning files, bare lists of messages.

A list of role and content under another column (``history``, ``dialog`` …) is read too; the evidence names the column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from instil.conversation import Conversation, Place
from instil.data.formats.prompt_completion import COMPLETIONS
from instil.data.formats.question_answer import PAIRS
from instil.data.formats.row_format import ReadOptions, RowFormat, cannot_hold, is_list_of
from instil.data.message_parts import kind_of, parse_json
from instil.data.messages import conversation_from_dict, conversation_to_dict, read_messages
from instil.errors import DataError, FormatError

_OWN = frozenset({"messages", "tools", "functions", "template_variables", "plain"})
_PAIRS = (*PAIRS, *(("prompt", completion) for completion in COMPLETIONS))


def _recognise(row: Any) -> str:
    if isinstance(row, list):
        return "a bare list of role and content" if is_list_of(row, "role") else ""
    column = _column(row)
    return f"column {column} with role and content" if column else ""


def _column(row: Mapping[str, Any]) -> str:
    if "messages" in row:
        given = row["messages"]
        if isinstance(given, str):
            return "messages" if given.lstrip().startswith("[") else ""
        return "messages" if isinstance(given, list) and not is_list_of(given, "from") else ""
    if "conversations" in row or "conversation" in row or "replies" in row:
        return ""
    named = [key for key, value in row.items() if is_list_of(value, "role", "content")]
    return named[0] if len(named) == 1 and not _is_half(named[0], row) else ""


def _is_half(column: str, row: Mapping[str, Any]) -> bool:
    """Tell a column that is one side of a pair: read alone, the other side would be lost."""
    return any(column in pair and row.keys() >= set(pair) for pair in _PAIRS)


def _read(row: Any, place: Place, options: ReadOptions) -> Sequence[Conversation]:
    if isinstance(row, list):
        return (Conversation(read_messages(row, place=place), place=place),)
    if not isinstance(row, Mapping):
        raise DataError(f"{place}: found {kind_of(row)}; expected an object with messages; mend the row")
    column = _column(row) or "messages"
    if isinstance(row.get(column), str):
        row = {**row, column: parse_json(row[column])}
    return (conversation_from_dict(row, place=place, messages_key=column),)


def _write(conversation: Conversation) -> dict[str, Any]:
    clash = sorted(_OWN & conversation.extra.keys())
    if clash:
        raise FormatError(
            cannot_hold(
                conversation, "messages", f"a column of its own named {clash[0]!r}", "rename or drop that column"
            )
        )
    return conversation_to_dict(conversation)


MESSAGES = RowFormat("messages", "messages: [{role, content}]", _recognise, _read, _write)
