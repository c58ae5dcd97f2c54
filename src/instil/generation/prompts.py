"""Reads the prompts for a model, and the reference answers in the data.

Any conversation that `instil.read` reads is a prompt: the model gets everything before an assistant turn, and that
turn is the reference. Rows without an answer (``prompt``, ``question`` or ``instruction`` alone, messages that end
with the user, a line of a text file) are prompts too, without a reference.

Why: a text file is read line by line here, one prompt per line, although training reads it as one text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain
from typing import Any, Literal, TypeAlias

from instil.conversation import ROWS, Conversation, Message, Place
from instil.conversation.message_reading import message_from_dict, read_messages
from instil.data.column_names import row_with_standard_names
from instil.data.formats.registry import read_row, recognise, refuse_media
from instil.data.formats.remedies import reworded
from instil.data.formats.row_format import ReadOptions
from instil.data.memory_rows import is_path, json_row, name_of_sources, rows_of, sources_in
from instil.data.messages import conversation_to_dict
from instil.data.sources.files import container_of, find_files
from instil.data.sources.rows import is_hub_id, parse_row, read_raw_rows, text_of
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.settings import RenderedPolicy
from instil.errors import DataError, GenerationError
from instil.files import home_path
from instil.generation.parsing.complete import parse_reasoning
from instil.remote.urls import is_url
from instil.units import counted

Turns: TypeAlias = Literal["last", "every"]
_OPTIONS = ReadOptions(remedies="convert")
MAX_COUNTED = 20_000
"""Rows that are counted at most where a limit leaves some."""
_QUESTION_KEYS = ("prompt", "question", "query", "instruction", "problem", "input", "text")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt.

    Attributes:
        conversation: The turns before the model's answer, with tools and variables.
        reference: The answer in the data, or None.
        turn: Which assistant turn of its conversation this is, from 1.
        last: Whether it is the last assistant turn.
    """

    conversation: Conversation
    reference: Message | None = None
    turn: int = 1
    last: bool = True

    @property
    def place(self) -> Place | None:
        """Place of the row."""
        return self.conversation.place

    @property
    def reference_text(self) -> str | None:
        """The reference's text without inline reasoning, or None."""
        if self.reference is None or not isinstance(self.reference.content, str):
            return None
        return parse_reasoning(self.reference.content)[1]

    def fingerprint(self) -> str:
        """Return a hash of the prompt: messages, tools, variables."""
        content = {**conversation_to_dict(replace(self.conversation, extra={})), "turn": self.turn}
        text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
        return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which prompts of the data were taken: the first ones, in the order of the data.

    Attributes:
        num_taken: How many.
        total: How many the data has; None if that is unknown.
        more_than: The data has more than this many; None unless counting ended early.

    Example:
        >>> print(Selection(40, 1319), Selection(8, 8), Selection(40), Selection(40, more_than=20_040), sep="; ")
        the first 40 of 1,319 prompts; all 8 prompts; the first 40 prompts; the first 40 of more than 20,040 prompts
    """

    num_taken: int
    total: int | None = None
    more_than: int | None = None

    def __str__(self) -> str:
        if self.total == self.num_taken:
            return f"all {counted(self.total, 'prompt')}" if self.total > 1 else "1 prompt"
        taken = f"the first {self.num_taken:,}"
        if self.total is not None:
            return f"{taken} of {counted(self.total, 'prompt')}"
        if self.more_than is not None:
            return f"{taken} of more than {self.more_than:,} prompts"
        return f"{taken} prompts" if self.num_taken > 1 else "the first prompt"


def select_prompts(path: Any, *, turns: Turns = "last", limit: int | None = None) -> tuple[list[Prompt], Selection]:
    """Read prompts as `read_prompts` does, and count those that the limit leaves.

    Rows after the limit are counted up to `MAX_COUNTED`, and not at all where they come over the network or from
    standard input. A row that cannot be read is not counted.
    """
    prompts = read_prompts(path, turns=turns, limit=limit)
    if limit is None or len(prompts) < limit:
        return prompts, Selection(len(prompts), len(prompts))
    source = str(path)
    if (is_path(path) and (source == "-" or is_url(source) or is_hub_id(source))) or isinstance(path, Iterator):
        return prompts, Selection(len(prompts))
    total = rows = 0
    try:
        for place, raw in _rows(path):
            if rows == MAX_COUNTED:
                return prompts, Selection(len(prompts), more_than=total) if total > limit else Selection(len(prompts))
            rows += 1
            with suppress(DataError):
                total += sum(len(prompts_of(talk, turns=turns)) for talk in _read(raw, place))
    except DataError:  # a damaged file: what could be counted is not all
        return prompts, Selection(len(prompts))
    return prompts, Selection(len(prompts), max(total, len(prompts)))


def read_prompts(path: Any, *, turns: Turns = "last", limit: int | None = None) -> list[Prompt]:
    """Read the prompts of a file, folder, glob, address, standard input (``-``) or Hub id, or of rows from memory.

    Args:
        path: The source.
        turns: Use each conversation's last assistant turn, or every one of them after its own history.
        limit: At most this many prompts.

    Raises:
        DataError: If a row cannot be read, or there is no prompt; the message starts with the place.
        GenerationError: If the limit leaves nothing.
    """
    if limit is not None and limit < 1:
        raise GenerationError(
            f"--limit {limit}: found less than 1. Expected at least 1. Give a larger number, or leave it out."
        )
    prompts: list[Prompt] = []
    for conversation in _conversations(path):
        prompts.extend(prompts_of(conversation, turns=turns))
        if limit is not None and len(prompts) >= limit:
            return prompts[:limit]
    if not prompts:
        raise DataError(
            f"{name_of_sources(path)}: has no prompt. Expected conversations, questions or prompts. Check the file."
        )
    return prompts


def prompts_of(conversation: Conversation, *, turns: Turns = "last") -> list[Prompt]:
    """Return the prompts of a conversation.

    Example:
        >>> messages = [Message("user", "a"), Message("assistant", "b"), Message("user", "c")]
        >>> [(p.turn, p.reference_text) for p in prompts_of(Conversation(tuple(messages)), turns="every")]
        [(1, 'b'), (2, None)]
    """
    messages = conversation.messages
    answers = [at for at, message in enumerate(messages) if message.role == "assistant" and at > 0]
    prompts = [
        Prompt(replace(conversation, messages=messages[:at]), messages[at], turn=number, last=False)
        for number, at in enumerate(answers, start=1)
    ]
    if messages[-1].role != "assistant":
        prompts.append(Prompt(conversation, None, turn=len(prompts) + 1))
    if not prompts:
        where = f"{conversation.place}: " if conversation.place else ""
        raise DataError(f"{where}there is nothing before the answer. Expected a question first. Remove the row.")
    prompts[-1] = replace(prompts[-1], last=True)
    return prompts if turns == "every" else prompts[-1:]


def as_messages(
    prompts: Sequence[Prompt], chat: ChatTokenizer | None, *, policy: RenderedPolicy = "read", turns: Turns = "last"
) -> list[Prompt]:
    """Return prompts whose text was rendered already as messages, and all others unchanged.

    Args:
        prompts: The prompts, as they were read.
        chat: The model's template; None for a model that continues plain text, which gets texts as they are.
        policy: Read such prompts back, keep them as text, or refuse them; as `data.rendered_rows`.
        turns: As in `read_prompts`.

    Raises:
        EncodingError: If a text is rendered and cannot be read back exactly, or the policy refuses it.
    """
    if chat is None:
        return list(prompts)
    chat = chat.with_settings(replace(chat.settings, rendered_rows=policy))
    read: list[Prompt] = []
    for prompt in prompts:
        whole = prompt.conversation
        if prompt.reference is not None:
            whole = replace(whole, messages=(*whole.messages, prompt.reference))
        conversation, how = chat.read_rendered(whole)
        read += [prompt] if how is None else prompts_of(conversation, turns=turns)
    return read


def _conversations(source: Any) -> Iterator[Conversation]:
    for place, raw in _rows(source):
        yield from _read(raw, place)


def _rows(source: Any) -> Iterator[tuple[Place, Any]]:
    """Yield the rows of a source, not yet read; a line of a text file is a conversation already."""
    if not is_path(source):
        sources = sources_in(source)
        return iter(rows_of(source)) if sources[0] is source else chain.from_iterable(map(_rows, sources))
    if container_of(source) == "txt":
        return _lines(str(source))
    return iter(read_raw_rows(str(source)))


def _read(raw: Any, place: Place) -> Sequence[Conversation]:
    """Return the conversations of a row, with or without an answer."""
    if isinstance(raw, Conversation):
        return [replace(raw, place=place)]
    row = json_row(raw, place) if place.source == ROWS else parse_row(raw, place)
    try:
        question = _question_without_answer(row, place)
    except DataError as error:
        raise reworded(error, _OPTIONS.remedies, place) from None
    return [question] if question is not None else read_row(row, place, format_name="auto", options=_OPTIONS)[1]


def _lines(source: str) -> Iterator[tuple[Place, Conversation]]:
    if not is_url(source) and not home_path(source).exists():
        raise DataError(f"{source}: no such file. Expected prompts, one per line. Check the path.")
    files = find_files(source) if is_url(source) else [home_path(source)]
    for path in files:
        for number, line in enumerate(text_of(path).splitlines(), start=1):
            if line.strip():
                yield Place(str(path), number), Conversation((Message("user", line),))


def _question_without_answer(row: Any, place: Place) -> Conversation | None:
    """Read a row that has a question and no answer; return None for any other row."""
    if isinstance(row, str):
        return Conversation((Message("user", row),), place=place)
    if not isinstance(row, Mapping):
        return None
    # A row of a known format has an answer. Only "text" rows may be questions under another name.
    known = recognise(row)
    if known is not None and known[0].name != "text":
        return None
    refuse_media(row, place)
    row = row_with_standard_names(row, (*_QUESTION_KEYS, "system"), place)
    key = next((name for name in _QUESTION_KEYS if row.get(name)), None)
    if key is None:
        return None
    question = row[key]
    messages: Sequence[Message]
    # The question is a text (Alpaca's has its `input` behind it), one message, or a list of messages.
    if isinstance(question, str):
        more = row.get("input")
        text = f"{question}\n{more}" if key == "instruction" and isinstance(more, str) and more else question
        messages = (Message("user", text),)
    elif isinstance(question, Mapping):
        messages = (message_from_dict(question, place=place),)
    else:
        messages = read_messages(question, place=place)
    system = row.get("system")
    if isinstance(system, str) and system:
        messages = (Message("system", system), *messages)
    extra = {name: value for name, value in row.items() if name not in (key, "system")}
    return Conversation(tuple(messages), place=place, extra=extra)
