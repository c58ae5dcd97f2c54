"""Messages, their tools and their place: Conversation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from instil.conversation.message import EMPTY, Message
from instil.conversation.place import Place


@dataclass(frozen=True, slots=True)
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
