"""Check that the template prints a conversation: nothing is lost without an error or a count.

`encoder` passes every trained turn with its prompt and completion, and serving's prompts go through the same check.
What counts as dropped is decided in `dropped_text`.

Why: a message is looked for in the first prompt after it. Later prompts may leave it out where the template rewrites
history, as serving does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from instil.conversation import Conversation, Message
from instil.encoding.settings import EncodingSettings
from instil.encoding.turns.completion import Turn
from instil.encoding.turns.dropped_text import (
    DroppedText,
    documents_missing,
    dropped_from_context,
    dropped_from_turn,
    tools_missing,
)
from instil.errors import DroppedTextError, TemplateError
from instil.template.chat_template import ChatTemplate
from instil.template.tracing import Rendering

_MARK = "a_marked_text"


class Renderer(Protocol):
    """The part of `EncodingContext` that the check needs."""

    @property
    def template(self) -> ChatTemplate:
        """The chat template."""

    @property
    def settings(self) -> EncodingSettings:
        """How conversations become examples."""

    def render_messages(
        self, conversation: Conversation, messages: Sequence[Message], *, add_generation_prompt: bool = False
    ) -> Rendering:
        """Return the rendering of some messages with a conversation's tools and variables."""


class PrintedCheck:
    """Collects what the template does not print of one conversation.

    Attributes:
        reasoning_ignored: Number of trained turns whose reasoning is not printed.
    """

    def __init__(self, context: Renderer, conversation: Conversation) -> None:
        template = context.template.given(conversation.tools)
        self._context, self._conversation = context, conversation
        self._shape, self._known = template.shape, template.names_read
        self._prompts: list[Rendering] = []
        self._num_checked = 0
        self.reasoning_ignored = 0

    def turn(self, turn: Turn, completion: Rendering) -> list[DroppedText]:
        """Return what is dropped of a trained turn and of the messages since the trained turn before it."""
        dropped = self.context_messages(range(self._num_checked, turn.index), turn.prompt)
        self._num_checked = turn.index + 1
        of_turn, reasoning_ignored = dropped_from_turn(
            turn.index, turn.message, completion, prompt=turn.prompt.text, shape=self._shape, known=self._known
        )
        self.reasoning_ignored += reasoning_ignored
        return dropped + of_turn

    def context_messages(self, indices: Sequence[int], prompt: Rendering) -> list[DroppedText]:
        """Return what a prompt lacks of the messages at `indices`, unless an earlier rendering has it."""
        self._prompts.append(prompt)
        messages = self._conversation.messages
        dropped = self._missing(indices, prompt)
        return [
            missing
            for missing in dropped
            if not self._printed_earlier(messages, missing) and not self._unlocated(missing)
        ]

    def rest(self, whole: Rendering, *, trained: bool) -> list[DroppedText]:
        """Return what is dropped of tools and documents, and of the turns after the last answer if those are trained."""
        dropped: list[DroppedText] = []
        if trained:
            dropped = self.context_messages(range(self._num_checked, len(self._conversation.messages)), whole)
        renderings = [*self._prompts, whole]
        tools = tools_missing(self._conversation.tools, renderings)
        dropped += [missing for missing in tools if not self._unlocated_tool(missing, whole)]
        return dropped + documents_missing(self._conversation.variables, renderings)

    def _missing(self, indices: Collection[int], rendering: Rendering) -> list[DroppedText]:
        return dropped_from_context(
            self._conversation.messages, indices, rendering, shape=self._shape, known=self._known
        )

    def _printed_earlier(self, messages: Sequence[Message], missing: DroppedText) -> bool:
        """Return whether the first rendering that contains a message prints it: later ones may rewrite history."""
        index = missing.message
        if messages[index].role == "assistant":
            shorter, prompted = messages[: index + 1], False
        else:
            later = range(index + 1, len(messages))
            end = next((at for at in later if messages[at].role == "assistant"), None)
            if end is None:
                return False
            shorter, prompted = messages[:end], True
        try:
            rendering = self._context.render_messages(self._conversation, shorter, add_generation_prompt=prompted)
        except TemplateError:
            return False
        return not self._missing((index,), rendering)

    def _unlocated(self, missing: DroppedText) -> bool:
        """Return whether a text is printed without its origin, which a few filters and numbers lose."""
        index, prompt, messages = missing.message, self._prompts[-1], self._conversation.messages
        message = messages[index]
        if not isinstance(message.content, str) or missing.what != "text" or prompt.spans(index, "content"):
            return False
        marked = [*messages[:index], replace(message, content=_MARK), *messages[index + 1 :]]
        return self._prints_either(message.content, prompt, replace(self._conversation, messages=tuple(marked)))

    def _unlocated_tool(self, missing: DroppedText, whole: Rendering) -> bool:
        """Return whether a tool's definition is printed without its origin."""
        tools = tuple(_marked(tool, missing.text) for tool in self._conversation.tools)
        return self._prints_either(missing.text, whole, replace(self._conversation, tools=tools))

    def _prints_either(self, text: str, rendering: Rendering, marked: Conversation) -> bool:
        """Return whether the template itself prints a text, and another text where that stands in its place.

        Why: the template may print the same words by chance.
        """
        if " ".join(text.split()) not in _literals(rendering):
            return False
        try:
            return _MARK in self._context.render_messages(marked, marked.messages).text
        except TemplateError:
            return False


def raise_or_list(context: Renderer, conversation: Conversation, dropped: Sequence[DroppedText]) -> tuple[str, ...]:
    """Return what is dropped for people, where the settings accept it.

    Raises:
        DroppedTextError: If there is any and the settings refuse it.
    """
    if dropped and context.settings.dropped_text == "refuse":
        first, others = dropped[0], len(dropped) - 1
        more = f" and {others} more" if others else ""
        raise DroppedTextError(
            f"{conversation.place or 'conversation'}: the template does not print all of the conversation: {first}{more}. Expected "
            "every text. Choose another template, remove the text, or accept the loss with data.dropped_text: accept "
            "(--dropped-text accept where a model answers)."
        )
    return tuple(map(str, dropped))


def check_prompt(context: Renderer, conversation: Conversation, prompt: Rendering) -> None:
    """Check that serving's prompt contains what others than the model wrote.

    Why: the model's own earlier answers are history here, which templates rewrite.

    Raises:
        DroppedTextError: If it does not, and the settings refuse that.
    """
    if context.settings.dropped_text == "accept":
        return
    check = PrintedCheck(context, conversation)
    others = [index for index, message in enumerate(conversation.messages) if message.role != "assistant"]
    dropped = check.context_messages(others, prompt)
    raise_or_list(context, conversation, dropped + check.rest(prompt, trained=False))


def _literals(rendering: Rendering) -> str:
    """Return the text that has no origin, with single spaces."""
    pieces = (rendering.text[start:end] if origin is None else "\0" for start, end, origin in rendering.segments)
    return " ".join("".join(pieces).split())


def _marked(value: Any, text: str) -> Any:
    """Return a copy of a JSON value in which a text is replaced by the mark."""
    if isinstance(value, Mapping):
        return {_marked(key, text): _marked(item, text) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_marked(item, text) for item in value]
    return _MARK if value == text else value
