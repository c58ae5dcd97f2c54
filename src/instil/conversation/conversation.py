"""Messages, their tools and their place: Conversation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from instil.conversation.field_checks import check_keys, template_input_in, wrong
from instil.conversation.message import EMPTY, Message
from instil.conversation.message_parts import read_tools
from instil.conversation.message_reading import read_messages
from instil.conversation.place import Place
from instil.conversation.shown_turns import shown_turn, text_of, tool_names
from instil.errors import DataError
from instil.units import counted
from instil.views.html import frame
from instil.views.turns import one_line, turns_html

_NONE: tuple[Any, ...] = ()
_MESSAGES = {Message}


@dataclass(frozen=True, slots=True, repr=False)
class Conversation:
    """Messages, the tools they may call, template variables, and the place they came from.

    Attributes:
        messages: Turns in order; at least one. A dict becomes a `Message`, read as in a row of a file.
        tools: JSON-schema tool definitions as transformers takes them, or empty. ``tools: []`` in data means no tools.
        variables: Template variables of this row (``enable_thinking``, ``documents`` …); they override the recipe's.
        place: Where the row came from; None if the conversation was made in code.
        plain: Whether no template is used. The contents are then concatenated: user text is context, assistant text is
            trained, and the end-of-text token follows the last one. Text, code and raw prompt/completion rows are
            plain.
        extra: Columns of the row that no other field holds. They are kept so that conversion loses nothing.
        side: In preference data, whether this conversation ends with the better or the worse answer. Two conversations
            in a row, the chosen one first, are a pair; their common messages have weight 0.

    Raises:
        DataError: If a message cannot be read, or a value has the wrong type.

    Example:
        >>> Conversation([{"role": "assistant", "content": "4", "train": False}]).messages[0].weight
        0.0
    """

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = _NONE
    variables: Mapping[str, Any] = field(default=EMPTY)
    place: Place | None = None
    plain: bool = False
    extra: Mapping[str, Any] = field(default=EMPTY)
    side: Literal["chosen", "rejected"] | None = None

    def __post_init__(self) -> None:
        """Check the values; dicts among the messages are read."""
        if type(self.place) is not Place and self.place is not None:
            raise wrong("Conversation.place", self.place, "a Place or None")
        # A set of the types costs least: one pass without a line of Python for each message.
        if type(self.messages) is not tuple or set(map(type, self.messages)) != _MESSAGES:
            object.__setattr__(self, "messages", read_messages(self.messages, place=self.place))
        if self.tools is not _NONE and not _are_tools(self.tools):
            object.__setattr__(self, "tools", read_tools(self.tools, where="Conversation"))
        if self.variables is not EMPTY:
            check_keys("Conversation.variables", self.variables)
            self._check_variables()
        if self.extra is not EMPTY:
            check_keys("Conversation.extra", self.extra)
        if type(self.plain) is not bool:
            raise wrong("Conversation.plain", self.plain, "True or False")
        if self.side is not None and self.side not in ("chosen", "rejected"):
            raise wrong("Conversation.side", self.side, "chosen, rejected or None")

    def _check_variables(self) -> None:
        name = template_input_in(self.variables)
        if name is not None:
            raise DataError(
                f"{self.place or 'Conversation'}: found {name} among the template variables. Expected variables of the "
                "template, such as enable_thinking. Write messages and tools beside them, and remove the others."
            )

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
        return [str(self.place or ""), self.side or "", counted(len(self.messages), "message"), tools, plain]


def _are_tools(tools: object) -> bool:
    """Return whether tools are as transformers takes them, so that nothing is to be read."""
    return isinstance(tools, tuple) and all(isinstance(tool, Mapping) and "function" in tool for tool in tools)
