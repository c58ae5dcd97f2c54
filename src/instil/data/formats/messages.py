"""The messages format: ``{"messages": [{"role": …, "content": …}]}``, as in OpenAI's fine-tuning files.

It also reads a bare list of messages, and a list under another column (``history``, ``dialog`` …). The evidence names
that column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from instil.conversation import Conversation, Place
from instil.conversation.message_parts import kind_of, parse_json
from instil.conversation.message_reading import read_messages
from instil.data.column_names import standard_name
from instil.data.formats.prompt_completion import COMPLETIONS
from instil.data.formats.question_answer import PAIRS
from instil.data.formats.row_format import ReadOptions, RowFormat, cannot_hold, is_list_of
from instil.data.messages import conversation_from_dict, conversation_to_dict
from instil.data.side_columns import SYSTEM_COLUMNS, is_empty
from instil.errors import DataError, FormatError

_OWN = frozenset({"messages", "tools", "functions", "template_variables", "plain"})
_PAIRS = (*PAIRS, *(("prompt", completion) for completion in COMPLETIONS))


def _recognise(row: Any) -> str:
    if isinstance(row, list):
        return "a bare list of role and content" if is_list_of(row, "role") else ""
    column = _column(row)
    return f"column {column} with role and content" if column else ""


def _column(row: Mapping[str, Any]) -> str:
    """Return the column that holds the messages, or an empty string."""
    if "messages" in row:
        messages = row["messages"]
        if isinstance(messages, str):  # tables hold the list as JSON text
            return "messages" if messages.lstrip().startswith("[") else ""
        return "messages" if isinstance(messages, list) and not is_list_of(messages, "from") else ""
    # ShareGPT, or a tree of replies of which a list would be only a part.
    if "conversations" in row or "conversation" in row or "replies" in row:
        return ""
    columns = [key for key, value in row.items() if is_list_of(value, "role", "content")]
    return columns[0] if len(columns) == 1 and not _is_half(columns[0], row) else ""


def _is_half(column: str, row: Mapping[str, Any]) -> bool:
    """Return whether a column is one side of a pair. Read alone, the other side would be lost."""
    names = {standard_name(name) or name for name in row}
    return any(column in pair and names >= set(pair) for pair in _PAIRS)


def _read(row: Any, place: Place, options: ReadOptions) -> Sequence[Conversation]:
    if isinstance(row, list):
        return (Conversation(read_messages(row, place=place), place=place),)
    if not isinstance(row, Mapping):
        raise DataError(f"{place}: found {kind_of(row)}. Expected an object with messages. Fix the row.")
    column = _column(row) or "messages"
    if isinstance(row.get(column), str):
        row = {**row, column: parse_json(row[column])}
    return (conversation_from_dict(row, place=place, messages_key=column),)


def _write(conversation: Conversation) -> dict[str, Any]:
    clash = sorted(key for key in _OWN & conversation.extra.keys() if not is_empty(conversation.extra[key]))
    if clash:
        raise FormatError(
            cannot_hold(
                conversation, "messages", f"a column of its own named {clash[0]!r}", "Rename or drop that column."
            )
        )
    return conversation_to_dict(conversation)


def _reads(row: Mapping[str, Any]) -> Sequence[str]:
    return () if row.get("plain") is True else SYSTEM_COLUMNS


MESSAGES = RowFormat("messages", "messages: [{role, content}]", _recognise, _read, _write, _reads)
