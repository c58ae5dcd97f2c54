"""The turns of a conversation as a person sees them, for notebooks and for the line of a record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from instil.conversation.message import Message
from instil.views.turns import ShownTurn


def text_of(message: Message) -> str:
    """Return the text of a message; a part that is not text is named."""
    content = message.content
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(str(part.get("text", f"[{part.get('type', 'part')}]")) for part in content)


def shown_turn(message: Message) -> ShownTurn:
    """Return a message with its reasoning, calls and weights."""
    asides = [] if message.reasoning is None else [("reasoning", message.reasoning)]
    for call in message.tool_calls:
        arguments = call.arguments
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, default=str)
        asides.append(("calls", f"{call.name}({text})"))
    if message.weight is not None:
        asides.append(("weight", f"{message.weight:g}"))
    asides += [
        (f"weight {part.weight:g}", f"{part.field}, characters {part.start} to {part.end}")
        for part in message.part_weights[:5]
    ]
    return ShownTurn(message.role, text_of(message), tuple(asides))


def tool_names(tools: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of tools."""
    functions = [tool.get("function", tool) for tool in tools]
    return [str(function.get("name", "tool")) if isinstance(function, Mapping) else "tool" for function in functions]
