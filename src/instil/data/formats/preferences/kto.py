"""Judged answers, as KTO learns from them: a prompt, one answer, and a ``label`` that says whether it is good.

Prompt and answer may be columns of any format of conversations: ``prompt`` and ``completion``, ``messages``, ShareGPT,
Alpaca, question and answer. Of a complete conversation, the label judges what follows the last question.

Why: a label is true or false, in a few spellings. Other words and numbers are refused, because a label may as well be
a class or a score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from instil.conversation import Conversation, Message, Place
from instil.conversation.message_parts import kind_of
from instil.data.formats.alpaca import ALPACA
from instil.data.formats.messages import MESSAGES
from instil.data.formats.preferences.pairs import as_judged, first_trained, with_side
from instil.data.formats.prompt_completion import PROMPT_COMPLETION
from instil.data.formats.question_answer import QUESTION_ANSWER
from instil.data.formats.row_format import ReadOptions, RowFormat, cannot_hold, row_of
from instil.data.formats.sharegpt import SHAREGPT
from instil.data.messages import message_to_dict
from instil.data.side_columns import is_empty
from instil.errors import DataError, FormatError

LABELS = ("label", "kto_tag")
"""Columns that may hold the judgement, in order of precedence."""
_SIDES: Mapping[str, Literal["chosen", "rejected"]] = {
    "true": "chosen",
    "1": "chosen",
    "1.0": "chosen",
    "false": "rejected",
    "0": "rejected",
    "0.0": "rejected",
}
_BASES = (MESSAGES, SHAREGPT, ALPACA, PROMPT_COMPLETION, QUESTION_ANSWER)
"""Formats that may hold prompt and answer, in the order in which they are tried."""
_QUESTIONS = frozenset({"system", "developer", "user"})


def _label_column(row: Mapping[str, Any]) -> str:
    return next((name for name in LABELS if name in row), "")


def _parts(row: Any) -> tuple[str, Mapping[str, Any], RowFormat | None]:
    """Return the column of the label, the row without it, and the format of the rest."""
    column = _label_column(row) if isinstance(row, Mapping) else ""
    if not column:
        return "", {}, None
    rest = {key: value for key, value in row.items() if key != column}
    return column, rest, next((base for base in _BASES if base.recognise(rest)), None)


def _recognise(row: Any) -> str:
    column, rest, base = _parts(row)
    return f"{base.recognise(rest)}, {column}" if base is not None else ""


def _read(row: Any, place: Place, options: ReadOptions) -> Sequence[Conversation]:
    column, rest, base = _parts(row)
    if base is None:
        found = f"columns {', '.join(map(str, row))}" if isinstance(row, Mapping) else kind_of(row)
        raise DataError(f"{place}: found {found}. Expected {KTO.columns}. Fix the row.")
    side = read_label(row[column], column, place)
    if options.reading == "pairs":
        raise FormatError(
            f"{place}: has one judged answer ({column}). The objective compares two: expected chosen and rejected. "
            "Set training.objective: kto."
        )
    if options.reading == "judged":
        conversations = base.read(rest, place, options)
        return tuple(_judged(conversation, side, base) for conversation in conversations)
    if side == "rejected":
        raise DataError(
            f"{place}: has {column} {row[column]!r:.20}: the answer was judged bad. Expected an answer to imitate. "
            "Set training.objective: kto, or leave such rows out with data.on_bad_row: skip."
        )
    return base.read(row, place, options)


def read_label(value: Any, column: str, place: Place) -> Literal["chosen", "rejected"]:
    """Return the side that a label names.

    Raises:
        DataError: If it is neither true nor false.

    Example:
        >>> read_label(True, "label", Place("a.jsonl", 1)), read_label("0", "label", Place("a.jsonl", 1))
        ('chosen', 'rejected')
    """
    word = str(value).strip().lower() if isinstance(value, bool | int | float | str) else ""
    if word not in _SIDES:
        raise DataError(
            f"{place}: {column} is {value!r:.40}. Expected true or false, 1 or 0: whether the answer is good. "
            "Fix the row."
        )
    return _SIDES[word]


def _judged(conversation: Conversation, side: Literal["chosen", "rejected"], base: RowFormat) -> Conversation:
    """Return a conversation as one judged answer.

    Raises:
        DataError: If it does not end with an answer of the assistant, or nothing precedes that answer.
    """
    messages = conversation.messages
    # Prompt and completion are two columns, and reading has set the answers of the prompt to 0.
    start = first_trained(messages) if base is PROMPT_COMPLETION else answer_start(messages)
    last = messages[-1]
    if last.role != "assistant" or not 0 < start < len(messages):
        found = f"ends with a message of the {last.role}" if last.role != "assistant" else "has no question"
        raise DataError(
            f"{conversation.place}: {found}. Expected a prompt and the assistant's answer, which the label judges. "
            "Fix the row."
        )
    if is_empty(last.content) and not last.tool_calls and not last.reasoning:
        raise DataError(f"{conversation.place}: the judged answer is empty. Expected text. Remove the row.")
    return with_side(conversation, side, num_prompt=start)


def answer_start(messages: Sequence[Message]) -> int:
    """Return the index behind the last question; calls and results of tools belong to the answer."""
    return max((n + 1 for n, message in enumerate(messages) if message.role in _QUESTIONS), default=0)


def _write(conversation: Conversation) -> dict[str, Any]:
    if conversation.side is None:
        remedy = "Use --to messages, or --objective kto where the rows have a label."
        raise FormatError(cannot_hold(conversation, "kto", "no judgement", remedy))
    judged = as_judged(conversation, conversation.side)
    start = first_trained(judged.messages)
    if not 0 < start < len(judged.messages):
        raise FormatError(cannot_hold(conversation, "kto", "no prompt, or no trained answer", "Remove it."))
    prompt = [message_to_dict(_bare(message)) for message in judged.messages[:start]]
    answer = [message_to_dict(message) for message in judged.messages[start:]]
    columns: dict[str, Any] = {"prompt": prompt, "completion": answer}
    if conversation.plain:
        columns = {"prompt": prompt[0]["content"], "completion": answer[0]["content"], "plain": True}
    columns["label"] = conversation.side == "chosen"
    return row_of(conversation, columns, target="kto", tools_as_text=False)


def _bare(message: Message) -> Message:
    return replace(message, weight=None)


def _reads(row: Mapping[str, Any]) -> Sequence[str]:
    column, rest, base = _parts(row)
    return (column or LABELS[0], *(base.reads(rest) if base is not None else ()))


KTO = RowFormat(
    "kto", "a prompt, an answer and a label of true or false", _recognise, _read, _write, _reads, holds_side=True
)
