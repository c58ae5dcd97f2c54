"""Read both sides of a row with ``chosen`` and ``rejected``, as complete conversations.

Each side may be a text, one turn, or a list of messages: the answer alone, or the complete conversation. ``rejected``
may also be a list of several answers. Messages are role/content or ShareGPT's from/value.

Why: a row that contradicts itself is refused here. Two answers that are equal, or whose prompts differ, are read as
they are; preparation leaves such a pair out and counts it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from instil.conversation import Conversation, Message, Place
from instil.conversation.message_parts import kind_of
from instil.conversation.message_reading import message_from_dict
from instil.data.formats.alpaca import joined, opening
from instil.data.formats.preferences.pairs import starts_with
from instil.data.formats.row_format import conversation_of, is_list_of, system_in, text_in
from instil.data.formats.sharegpt import read_turn
from instil.data.side_columns import is_empty, with_system
from instil.errors import DataError

_SPEAKER = re.compile(r"\n\n(Human|Assistant): ?")
PROMPTS = ("prompt", "question", "instruction", "query", "input")
"""Columns that may hold the prompt, in order of precedence."""
_TURNS = ("conversations", "conversation", "messages")
"""Columns that may hold the turns before the answers."""
_OPENAI = ("input", "preferred_output", "non_preferred_output")
_SYSTEM = frozenset({"system", "developer"})


def prompt_names(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the columns that may hold the prompt of a row: the one that is there, else all of them.

    Example:
        >>> prompt_names({"question": "2+2?", "chosen": "4"}), prompt_names({"chosen": "4"}) == (*PROMPTS, "history")
        (('question',), True)
    """
    present = tuple(name for name in PROMPTS if not is_empty(row.get(name)))[:1] or PROMPTS
    return (
        *present,
        *(("input",) if present == ("instruction",) else ()),
        *(("history",) if "instruction" in present else ()),
    )


def is_openai(row: Mapping[str, Any]) -> bool:
    """Return whether a row is OpenAI's shape: ``input`` with messages, ``preferred_output``, ``non_preferred_output``."""
    return isinstance(row.get("input"), Mapping) and row.keys() >= set(_OPENAI)


def without_openai_names(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return OpenAI's shape with the usual columns; any other row as it is.

    Example:
        >>> row = {"input": {"messages": [], "tools": []}, "preferred_output": [1], "non_preferred_output": [2]}
        >>> without_openai_names(row)
        {'prompt': [], 'tools': [], 'chosen': [1], 'rejected': [2]}
    """
    if not is_openai(row):
        return row
    question = dict(row["input"])
    rest = {key: value for key, value in row.items() if key not in _OPENAI}
    answers = {"chosen": row["preferred_output"], "rejected": row["non_preferred_output"]}
    return {"prompt": question.pop("messages", None), **question, **answers, **rest}


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a row says before its answers.

    Attributes:
        messages: Its turns; empty if the row has no column of them.
        columns: The columns that hold them.
        is_text: Whether it is one text. Beside complete conversations such a text is only a label.
        is_transcript: Whether it is text with ``Human:`` and ``Assistant:``.
    """

    messages: tuple[Message, ...] = ()
    columns: tuple[str, ...] = ()
    is_text: bool = False
    is_transcript: bool = False


def read_prompt(row: Mapping[str, Any], place: Place) -> Prompt:
    """Read what precedes the answers of a row.

    Raises:
        DataError: If a turn cannot be read.
    """
    column = next((name for name in PROMPTS if not is_empty(row.get(name))), "")
    value = row.get(column)
    if column and not isinstance(value, list):
        text = text_in(row, column, place)
        turns = transcript(text, is_prompt=True)
        if turns:
            return Prompt(tuple(turns), (column,), is_text=True, is_transcript=True)
        if column == "instruction":
            text = joined(text, text_in(row, "input", place, empty_for_null=True))
            used = ("instruction", "input", "history")
            return Prompt((*opening(row, place), Message("user", text)), used, is_text=True)
        return Prompt((Message("user", text),), (column,), is_text=True)
    column = column or next((name for name in _TURNS if is_list_of(row.get(name), "from")), "")
    column = column or next((name for name in _TURNS if is_list_of(row.get(name), "role")), "")
    if not column:
        return Prompt()
    return Prompt(tuple(_read_list(row[column], column, place)), (column,))


def read_sides(row: Mapping[str, Any], place: Place) -> tuple[Conversation, tuple[Conversation, ...]]:
    """Return the conversation that ends with the better answer, and those that end with a worse one.

    Raises:
        DataError: If a side is empty, cannot be read, does not end with the assistant, or does not go with the prompt.
    """
    prompt = read_prompt(row, place)
    if is_several(row.get("chosen")):
        raise DataError(
            f"{place}: column 'chosen' is a list of {len(row['chosen'])} answers. Expected one: text or messages. "
            "Keep the best one, or write all answers with their scores to the columns responses and scores."
        )
    chosen = complete(row.get("chosen"), prompt, "chosen", place)
    value: Any = row.get("rejected")
    several = {f"rejected[{n}]": one for n, one in enumerate(value)} if is_several(value) else {"rejected": value}
    rejected = [complete(answer, prompt, name, place) for name, answer in several.items()]
    used = ["chosen", "rejected", *system_in(row, place)[1]]
    if not prompt.is_text or all(starts_with(side, prompt.messages) for side in (chosen, *rejected)):
        used += prompt.columns
    first = conversation_of(with_system(chosen, row, place), row, used, place)
    return first, tuple(replace(first, messages=with_system(side, row, place)) for side in rejected)


def is_several(value: Any) -> bool:
    """Return whether a value is a list of answers: of texts, or of lists of messages.

    Example:
        >>> is_several(["4", "44"]), is_several([[{"role": "assistant"}]]), is_several([{"role": "assistant"}])
        (True, True, False)
    """
    return isinstance(value, list) and any(isinstance(item, str | list) for item in value)


def complete(answer: Any, prompt: Prompt, name: str, place: Place) -> tuple[Message, ...]:
    """Return the complete conversation of one answer.

    Args:
        answer: The value: a text, one turn, or a list of messages.
        prompt: What precedes it.
        name: Where it stands, for errors: ``chosen``, ``rejected[1]`` …
        place: Where the row came from.

    Raises:
        DataError: As `read_sides`.
    """
    if is_empty(answer):
        found = "null" if answer is None else "empty"
        raise DataError(f"{place}: {name} is {found}. Expected an answer: text or messages. Remove the row.")
    if isinstance(answer, str):
        messages = _from_text(answer, prompt, name, place)
    elif isinstance(answer, list | Mapping):
        turns = answer if isinstance(answer, list) else [answer]
        messages = _joined(tuple(_read_list(turns, name, place)), prompt, name, place)
    else:
        raise DataError(f"{place}: {name} is {kind_of(answer)}. Expected an answer: text or messages. Fix the row.")
    _check_end(messages, name, place)
    return messages


def _from_text(answer: str, prompt: Prompt, name: str, place: Place) -> tuple[Message, ...]:
    turns = transcript(answer) if prompt.is_transcript or not prompt.messages else []
    if turns:
        return tuple(turns)
    if not prompt.messages:
        raise DataError(_no_prompt(f"{name} is a text", place))
    # In HH-RLHF a space follows "Assistant:". It belongs to the mark where the prompt ends with that mark.
    return (*prompt.messages, Message("assistant", answer.removeprefix(" ") if prompt.is_transcript else answer))


def _no_prompt(found: str, place: Place) -> str:
    return (
        f"{place}: {found}, and there is no prompt. Expected a column {', '.join(PROMPTS)}, complete conversations, or "
        "text with Human: and Assistant: turns. Fix the row."
    )


def _read_list(turns: Sequence[Any], name: str, place: Place) -> list[Message]:
    where = f"{place}: {name}"
    if is_list_of(turns, "from"):
        return [read_turn(turn, number, where) for number, turn in enumerate(turns, start=1)]
    return [message_from_dict(turn, number=number, place=where) for number, turn in enumerate(turns, start=1)]


def _joined(messages: tuple[Message, ...], prompt: Prompt, name: str, place: Place) -> tuple[Message, ...]:
    """Return a list of messages behind its prompt, unless it holds the prompt already."""
    if all(message.role == "assistant" for message in messages) and len(messages) > 1:
        raise DataError(
            f"{place}: {name} is {len(messages)} messages of the assistant in a row. Expected one answer. "
            "Write several answers as a list of lists, or join them."
        )
    before = prompt.messages
    if starts_with(messages, before):
        if not before and messages[0].role == "assistant" and len(messages) == 1:
            raise DataError(_no_prompt(f"{name} is an answer alone", place))
        return messages
    if messages[0].role == "assistant":
        return (*before, *messages)
    if prompt.is_text:
        return messages
    systems = tuple(message for message in before if message.role in _SYSTEM)
    if starts_with(messages, before[len(systems) :]):
        return (*systems, *messages)
    raise DataError(
        f"{place}: {name} starts with a message of the {messages[0].role} that the prompt does not start with. "
        "Expected the answer alone, or the prompt and then the answer. Fix the row."
    )


def _check_end(messages: Sequence[Message], name: str, place: Place) -> None:
    last = messages[-1]
    if last.role != "assistant":
        raise DataError(
            f"{place}: {name} ends with a message of the {last.role}. Expected the assistant's answer last. Fix the row."
        )
    if is_empty(last.content) and not last.tool_calls and not last.reasoning:
        raise DataError(f"{place}: {name} ends with an empty answer. Expected text or a tool call. Remove the row.")


def transcript(text: str, *, is_prompt: bool = False) -> list[Message]:
    r"""Return the turns of a text with ``Human:`` and ``Assistant:`` in it, as in HH-RLHF; empty for any other text.

    Args:
        text: The text.
        is_prompt: Whether it ends with the mark of the answer that follows.

    Example:
        >>> [message.content for message in transcript("\n\nHuman: 2+2?\n\nAssistant: 4")]
        ['2+2?', '4']
        >>> len(transcript("\n\nHuman: 2+2?\n\nAssistant:", is_prompt=True)), transcript("4")
        (1, [])
    """
    # The pieces are what precedes the first speaker, then speaker and text in turns.
    pieces = _SPEAKER.split(text)
    if len(pieces) < 5 or pieces[0].strip():
        return []
    turns = [
        Message("user" if speaker == "Human" else "assistant", text)
        for speaker, text in zip(pieces[1::2], pieces[2::2], strict=True)
    ]
    if not is_prompt:
        return turns
    is_open = turns[-1].role == "assistant" and is_empty(turns[-1].content)
    return turns[:-1] if is_open else []
