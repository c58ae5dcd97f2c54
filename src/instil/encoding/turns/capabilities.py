"""What a chat template cannot carry: kinds of conversations of which it drops or refuses a part.

`proof` lists them, so that a person knows before the data is read. They are no failures: rows of these kinds are
refused, or trained with a loss that `data.dropped_text` accepts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from instil.conversation import Conversation, Message, ToolCall
from instil.encoding.turns.stop_tokens import PROBE_TOOL
from instil.errors import DroppedTextError, EncodingError, TemplateError

_RULE, _ASK, _SAY = Message("system", "Be brief."), Message("user", "Weather in Hanoi?"), Message("assistant", "Warm.")
_CALLS = tuple(ToolCall("probe_tool", {"city": city}, f"abcdef12{n}") for n, city in enumerate(("Hanoi", "Oslo")))
_CALLING = Message("assistant", "", tool_calls=_CALLS[:1])
_RESULTS = tuple(
    Message("tool", text, tool_call_id=call.id, name=call.name)
    for text, call in zip(("25 degrees", "8 degrees"), _CALLS, strict=True)
)
_TOOLS = (PROBE_TOOL,)
_LONG = " ".join(f"Line {n} of many." for n in range(500))
CARRIED: Mapping[str, Conversation] = {
    "a system message": Conversation((_RULE, _ASK, _SAY)),
    "a developer message": Conversation((replace(_RULE, role="developer"), _ASK, _SAY)),
    "a second system message": Conversation((_RULE, replace(_RULE, content="Be kind."), _ASK, _SAY)),
    "tool definitions": Conversation((_ASK, _SAY), tools=_TOOLS),
    "a tool call and its result": Conversation((_ASK, _CALLING, _RESULTS[0], _SAY), tools=_TOOLS),
    "text beside a tool call": Conversation((_ASK, replace(_CALLING, content="Let me look."), _RESULTS[0], _SAY)),
    "two tool calls in a turn": Conversation((_ASK, replace(_CALLING, tool_calls=_CALLS), *_RESULTS, _SAY)),
    "long texts": Conversation((replace(_ASK, content=_LONG), replace(_SAY, content=_LONG))),
    "reasoning": Conversation((_ASK, replace(_SAY, reasoning="It is May."))),
}
"""What a conversation may have, with a conversation that has it."""
_PART_OF = {
    "a developer message": "a system message",
    "a second system message": "a system message",
    "text beside a tool call": "a tool call and its result",
    "two tool calls in a turn": "a tool call and its result",
}
"""What says nothing new where the other is not carried either."""


def not_carried(encode: Callable[[Conversation], Any], *, takes_reasoning: bool, developer: str) -> tuple[str, ...]:
    """Return what a template does not carry, each with what happens to it.

    Args:
        encode: Encodes a conversation, with ``dropped_text: refuse``.
        takes_reasoning: Whether the template has a place for reasoning.
        developer: The role with which the template receives developer messages.

    Example:
        >>> not_carried(lambda conversation: None, takes_reasoning=True, developer="system")
        ('a developer message (given as system)',)
    """
    missing: dict[str, str] = {}
    for name, conversation in CARRIED.items():
        if name == "reasoning":
            if not takes_reasoning:
                missing[name] = "left out"
            continue
        if _PART_OF.get(name) in missing:
            continue
        tools = _TOOLS if any(message.tool_calls for message in conversation.messages) else conversation.tools
        if "tool definitions" in missing:
            tools = conversation.tools
        try:
            encode(replace(conversation, tools=tools))
        except DroppedTextError:
            missing[name] = "dropped"
        except (EncodingError, TemplateError):
            missing[name] = "refused"
        else:
            if name == "a developer message" and developer == "system":
                missing[name] = "given as system"
    return tuple(f"{name} ({what})" for name, what in missing.items())
