"""Conversations as the text that a chat template prints for training, for `convert --to chatml-text`.

Every text is read back into messages before it counts, by the same code that reads such rows for training
(`rendered_rows`). What the text cannot hold is refused, as in every other conversion. What it holds in another form,
such as a system text inside the first question, is named.

Why: a row is returned as plain text, so that the format ``text`` writes it, with its own checks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from instil.conversation import Conversation, Message
from instil.data.formats.row_format import cannot_hold
from instil.data.json_values import as_json
from instil.encoding.turns.headers import takes_reasoning
from instil.encoding.turns.inline_reasoning import split_reasoning
from instil.encoding.turns.reasoning_block import TAG
from instil.encoding.turns.rendered_rows import RenderedRows
from instil.errors import FormatError, TemplateError
from instil.template.chat_template import ChatTemplate
from instil.template.tracing import Rendering

SYSTEM_ROLES = frozenset({"system", "developer"})


@dataclass(frozen=True, slots=True)
class PrintedRow:
    """A conversation as text.

    Attributes:
        row: The text as a plain conversation, with the variables and other columns of the row.
        changes: What the text holds in another form, for people.
    """

    row: Conversation
    changes: tuple[str, ...]


@dataclass(frozen=True)
class TextPrinter:
    """Prints conversations with one chat template.

    Attributes:
        name: Name of the target in messages, such as ``chatml-text``.
        template: The template.
        added: Texts of the tokenizer's added tokens, or the control tokens of a named template.
        prepare: Makes of a conversation what a run encodes: with its variables, and with reasoning in its place. None:
            reasoning is moved if the template has a place for it.
    """

    name: str
    template: ChatTemplate
    added: frozenset[str]
    prepare: Callable[[Conversation], Conversation] | None = None

    def print(self, conversation: Conversation) -> PrintedRow:
        """Return a conversation's training text: everything that the template prints, the stop tokens included.

        Raises:
            FormatError: If the text would lose a part of the conversation, or is not read back into its messages.
            TemplateError: If the template refuses the conversation.
        """
        read: tuple[str, ...] = ()
        if conversation.plain:  # text that another template has printed holds the messages
            found = self._rows.find(conversation)
            if found is None or found.conversation is None:
                raise self._refusal(conversation, "plain text without turns", "Use --to text instead.")
            conversation, read = found.conversation, (f"text rendered with {found.how} is read into messages",)
        self._check_weights(conversation)
        prepared = self._prepared(conversation)
        try:
            text = self.template.render_text(prepared.messages, tools=prepared.tools, variables=prepared.variables)
        except TemplateError as error:
            raise TemplateError(
                f"{conversation.place or 'conversation'}: {error}. Expected a conversation that the template takes. "
                "Choose another template, or write --to messages."
            ) from None
        row = replace(conversation, messages=(Message("assistant", text),), tools=(), plain=True)
        changes = self._changes(prepared, self._read_back(conversation, row))
        return PrintedRow(row, tuple(dict.fromkeys((*read, *changes))))

    @cached_property
    def _rows(self) -> RenderedRows:
        return RenderedRows(self.template, self.added)

    @cached_property
    def _takes_reasoning(self) -> bool:
        tags = frozenset(tag for source in self.template.sources for tag in TAG.findall(source))
        return takes_reasoning(self._render, tags=tags | self.added)

    def _render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        add_generation_prompt: bool = False,
    ) -> Rendering:
        return self.template.render(messages, tools=tools, add_generation_prompt=add_generation_prompt)

    def _prepared(self, conversation: Conversation) -> Conversation:
        if self.prepare is not None:
            return self.prepare(conversation)
        if not self._takes_reasoning:
            return conversation
        return replace(conversation, messages=tuple(map(split_reasoning, conversation.messages)))

    def _refusal(
        self, conversation: Conversation, what: str, remedy: str = "Use --to messages instead."
    ) -> FormatError:
        return FormatError(cannot_hold(conversation, self.name, what, remedy))

    def _check_weights(self, conversation: Conversation) -> None:
        """Refuse weights that differ from what training on such a text does: answers count, everything else does not."""
        for number, message in enumerate(conversation.messages, start=1):
            usual = 1.0 if message.role == "assistant" else 0.0
            if message.part_weights or message.weight not in (None, usual):
                raise self._refusal(conversation, f"a weight on message {number} ({message.role})")
            if message.extra:
                raise self._refusal(conversation, f"the key {next(iter(message.extra))!r} on message {number}")

    def _read_back(self, conversation: Conversation, row: Conversation) -> Conversation:
        found = self._rows.find(replace(row, variables=conversation.variables))
        if found is None or found.conversation is None:
            raise self._refusal(conversation, *_why_unread(conversation))
        return self._prepared(found.conversation)

    def _changes(self, before: Conversation, after: Conversation) -> Iterator[str]:
        """Yield what the text holds in another form.

        Raises:
            FormatError: If something is missing.
        """
        if _as_json(before.tools) != _as_json(after.tools):
            raise self._refusal(before, "tool definitions that the text does not show")
        old, new = list(before.messages), list(after.messages)
        if _joins_the_question(old, new):
            yield "the system text is part of the first question"
            old, new = old[2:], new[1:]
        if [_role(message) for message in old] != [_role(message) for message in new]:
            raise self._refusal(before, _other_turns(old, new))
        if any(message.role == "developer" for message in old):
            yield "developer messages are system messages"
        for number, (message, printed) in enumerate(zip(old, new, strict=True), start=1):
            yield from self._changes_of(before, message, printed, number)

    def _changes_of(self, conversation: Conversation, message: Message, printed: Message, number: int) -> Iterator[str]:
        where = f"on message {number} ({message.role})"
        if _stripped(message.reasoning) != _stripped(printed.reasoning):
            raise self._refusal(conversation, f"reasoning that the template does not print, {where}")
        if [(call.name, _as_json(call.arguments)) for call in message.tool_calls] != [
            (call.name, _as_json(call.arguments)) for call in printed.tool_calls
        ]:
            raise self._refusal(conversation, f"tool calls that the text does not show, {where}")
        if message.role != "tool" and message.name is not None:
            raise self._refusal(conversation, f"a name {where}")
        content, text = _text_in(message), _text_in(printed)
        if _stripped(content) != _stripped(text):
            raise self._refusal(conversation, f"a text that reads back as another one, {where}")
        if not isinstance(message.content, str | None):
            yield "parts of a text are joined"
        elif (content or "") != (text or ""):
            yield "white space at the ends of texts is lost"
        if any(call.id for call in message.tool_calls) or (message.tool_call_id or message.name):
            yield "ids and names of calls and their results are left out"


def _role(message: Message) -> str:
    return "system" if message.role == "developer" else message.role


def _why_unread(conversation: Conversation) -> tuple[str, str]:
    """Return why a text is not read back, and what to do: the first of the usual causes that fits."""
    for message in conversation.messages:
        if not message.content and not message.tool_calls:
            return f"an empty {message.role} message", "Fix or remove the row."
    last = conversation.messages[-1].role
    if last != "assistant":
        return f"a {last} message at the end, without an answer", "Remove it, or use --to messages instead."
    return (
        "turns whose text does not read back into the same messages",
        "A text may hold a header of the template, or the template does not print everything. "
        "Use --to messages instead.",
    )


def _other_turns(old: Sequence[Message], new: Sequence[Message]) -> str:
    """Return how the turns that a text shows differ from those of the row."""
    if len(new) > len(old):
        return "a text that reads as several turns, because it holds a header of the template"
    missing = [role for role in SYSTEM_ROLES if role in {m.role for m in old} and "system" not in {m.role for m in new}]
    if missing:
        return f"a {missing[0]} text that the template does not print in a training text"
    return f"turns in the order {', '.join(message.role for message in old)}"


def _stripped(text: str | None) -> str:
    return (text or "").strip()


def _text_in(message: Message) -> str | None:
    """Return a message's text; None if it holds a part that is no text."""
    if message.content is None or isinstance(message.content, str):
        return message.content
    parts = [part.get("text") if part.get("type") == "text" else None for part in message.content]
    return "\n".join(map(str, parts)) if None not in parts else None


def _joins_the_question(old: Sequence[Message], new: Sequence[Message]) -> bool:
    """Return whether a template printed the system text and the first question as one turn."""
    if len(new) != len(old) - 1 or len(old) < 2 or old[0].role not in SYSTEM_ROLES or old[1].role != "user":
        return False
    system, question, both = (_stripped(_text_in(message)) for message in (old[0], old[1], new[0]))
    between = both.removeprefix(system).removesuffix(question)
    return new[0].role == "user" and both == f"{system}{between}{question}" and not between.strip()


def _as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=as_json)
