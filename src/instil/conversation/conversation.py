"""Messages, their tools and their place: Conversation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from instil.conversation.message import EMPTY, Message
from instil.conversation.place import Place
from instil.conversation.shown_turns import shown_turn, text_of, tool_names
from instil.units import counted
from instil.views.html import frame
from instil.views.turns import one_line, turns_html


@dataclass(frozen=True, slots=True, repr=False)
class Conversation:
    """Messages, the tools they may call, template variables, and the place they came from.

    Attributes:
        messages: Turns in order; at least one.
        tools: JSON-schema tool definitions as transformers takes them, or empty. ``tools: []`` in data means no tools.
        variables: Template variables of this row (``enable_thinking``, ``documents`` …); they override the recipe's.
        place: Where the row came from; None if the conversation was made in code.
        plain: Whether no template is used. The contents are then concatenated: user text is context, assistant text is
            trained, and the end-of-text token follows the last one. Text, code and raw prompt/completion rows are
            plain.
        extra: Columns of the row that no other field holds. They are kept so that conversion loses nothing.
    """

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    variables: Mapping[str, Any] = field(default=EMPTY)
    place: Place | None = None
    plain: bool = False
    extra: Mapping[str, Any] = field(default=EMPTY)

    def __repr__(self) -> str:
        """Return place, size and first words, on one line."""
        first = [f"{message.role} {text_of(message)[:80]!r}" for message in self.messages[:3]]
        return one_line("Conversation", [*self._facts(), *first, *(["…"] if len(self.messages) > 3 else [])])

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the turns, of a long conversation its beginning and its end."""
        messages = self.messages
        body = turns_html(lambda index: shown_turn(messages[index]), len(messages))
        facts = [*self._facts(), ", ".join(tool_names(self.tools))]
        return frame("Conversation", facts=facts, body=body)

    def _facts(self) -> list[str]:
        tools = counted(len(self.tools), "tool") if self.tools else ""
        plain = "plain text, no template" if self.plain else ""
        return [str(self.place or ""), counted(len(self.messages), "message"), tools, plain]
