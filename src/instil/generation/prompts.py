"""Reads the prompts for a model, and the reference answers in the data.

Any conversation that `instil.read` reads is a prompt: the model gets everything before an assistant turn, and that
turn is the reference. Rows without an answer (``prompt``, ``question`` or ``instruction`` alone, messages that end
with the user, a line of a text file) are prompts too, without a reference.

Why: a text file is read line by line here, one prompt per line, although training reads it as one text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeAlias

from instil.conversation import ROWS, Conversation, Message, Place
from instil.conversation.message_reading import message_from_dict, read_messages
from instil.data.formats.registry import read_row, recognise
from instil.data.formats.row_format import ReadOptions
from instil.data.memory_rows import is_path, json_row, rows_of
from instil.data.messages import conversation_to_dict
from instil.data.sources.files import container_of
from instil.data.sources.rows import parse_row, read_raw_rows, text_of
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.settings import RenderedPolicy
from instil.errors import DataError, GenerationError
from instil.files import home_path
from instil.generation.parsing.complete import parse_reasoning

Turns: TypeAlias = Literal["last", "every"]
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


def read_prompts(path: Any, *, turns: Turns = "last", limit: int | None = None) -> list[Prompt]:
    """Read the prompts of a file, folder, glob, standard input (``-``) or Hub id, or of rows from memory.

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
            f"{path if is_path(path) else ROWS}: has no prompt. Expected conversations, questions or prompts. Check the file."
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
    if not is_path(source):
        rows = rows_of(source)
    elif container_of(source) == "txt":
        yield from _lines(home_path(source))
        return
    else:
        rows = read_raw_rows(str(source))
    for place, raw in rows:
        if isinstance(raw, Conversation):
            yield replace(raw, place=place)
            continue
        row = json_row(raw, place) if place.source == ROWS else parse_row(raw, place)
        question = _question_without_answer(row, place)
        if question is not None:
            yield question
            continue
        _, conversations = read_row(row, place, format_name="auto", options=ReadOptions({}, "chat"))
        yield from conversations


def _lines(path: Path) -> Iterator[Conversation]:
    if not path.exists():
        raise DataError(f"{path}: no such file. Expected prompts, one per line. Check the path.")
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        if line.strip():
            yield Conversation((Message("user", line),), place=Place(str(path), number))


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
