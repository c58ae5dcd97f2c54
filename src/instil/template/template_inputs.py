"""Find the input that a template expects, by rendering short probes with it.

A probe shows what the template printed, and by its origin whether that came from the message. This runs once per
template, on first use. Reading the source instead would require understanding all of Jinja.

Why: if a template renders arguments that are a mapping, they stay a mapping, even if it prints them as Python does.
transformers, and servers, which parse arguments, print the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from instil.conversation import Message, Role, ToolCall
from instil.errors import TemplateError
from instil.template.message_dicts import Shape
from instil.template.tracing import Rendering

Render: TypeAlias = Callable[[Sequence[Message], Sequence[Mapping[str, Any]], Shape], Rendering]

REASONING_KEYS = ("reasoning", "thought", "thoughts", "reasoning_text", "thinking_content", "analysis")
"""Names of reasoning that transformers does not fill from another name. The names that it does fill are passed as it
passes them, so that texts stay equal."""

_TOOL = {
    "type": "function",
    "function": {
        "name": "probe_tool",
        "description": "Probe",
        "parameters": {
            "type": "object",
            "properties": {"key": {"type": "string", "description": "Probe"}},
            "required": ["key"],
        },
    },
}
_ASK = Message("user", "probe question")
_SAY = Message("assistant", "probe answer")
_CALL = ToolCall("probe_tool", {"key": "probe argument"}, "probe0001")
_RESULT = Message("tool", "probe result", tool_call_id="probe0001", name="probe_tool")


def find_shape(render: Render, names_read: frozenset[str]) -> Shape:
    """Return the input that a template expects.

    Args:
        render: Renders messages and tools in a given shape.
        names_read: Every name in the template.
    """
    shape = _content_shape(render)
    if "tool_calls" in names_read:
        shape = _call_shape(render, shape)
    return _developer_shape(render, _reasoning_shape(render, shape, names_read))


def _shows(
    render: Render, messages: Sequence[Message], shape: Shape, field: str, at: int, *, tools: bool = False
) -> bool | None:
    """Return whether a field of message `at` is printed, or None if the template refuses the probe."""
    try:
        return bool(render(messages, (_TOOL,) if tools else (), shape).spans(at, field))
    except TemplateError:
        return None


def _content_shape(render: Render) -> Shape:
    def parts(message: Message) -> Message:
        return replace(message, content=({"type": "text", "text": message.content},))

    def text_of(messages: Sequence[Message]) -> str | None:
        """Return the text if both contents are printed, else None."""
        try:
            rendering = render(messages, (), Shape())
        except TemplateError:
            return None
        return rendering.text if rendering.spans(0, "content") and rendering.spans(1, "content") else None

    from_text, from_parts = text_of([_ASK, _SAY]), text_of([parts(_ASK), parts(_SAY)])
    if from_text is None:
        return Shape(content="both" if from_parts is None else "parts")
    # A template that does not know parts prints them as Python does, or refuses them.
    return Shape(content="both" if from_parts == from_text else "text")


def _call_shape(render: Render, shape: Shape) -> Shape:
    def shown(candidate: Shape, content: str | None) -> bool | None:
        call = Message("assistant", content, tool_calls=(_CALL,))
        verdicts = [
            _shows(render, messages, candidate, "tool_calls", 1, tools=tools)
            for messages in ([_ASK, call, _RESULT, _SAY], [_ASK, call])
            for tools in (True, False)
        ]
        return next((verdict for verdict in verdicts if verdict), None if None in verdicts else False)

    candidates = [
        shape,
        replace(shape, arguments="text"),
        replace(shape, call="flat"),
        replace(shape, call="flat", arguments="text"),
    ]
    found = next((candidate for candidate in candidates if shown(candidate, "")), shape)
    if not shown(found, None) and shown(found, ""):
        found = replace(found, no_content="empty")
    return found


def _reasoning_shape(render: Render, shape: Shape, names_read: frozenset[str]) -> Shape:
    if prints_reasoning(render, shape):
        return shape
    candidates = [replace(shape, reasoning_keys=(key,)) for key in REASONING_KEYS if key in names_read]
    if "thinking" in names_read:
        candidates.append(replace(shape, reasoning_part=True))
    return next((candidate for candidate in candidates if prints_reasoning(render, candidate)), shape)


def _developer_shape(render: Render, shape: Shape) -> Shape:
    """Pass developer messages as system messages if the template prints only those, or prints a developer's text as
    it prints any unknown role: like a user's or an assistant's.
    """

    def text_of(role: Role) -> str | None:
        try:
            rendering = render([Message(role, "probe rule"), _ASK], (), shape)
        except TemplateError:
            return None
        return rendering.text if rendering.spans(0, "content") else None

    developer, system = text_of("developer"), text_of("system")
    unknown = developer is None or (developer != system and developer in (text_of("user"), text_of("assistant")))
    return replace(shape, developer="system") if unknown and system is not None else shape


def prints_reasoning(render: Render, shape: Shape) -> bool:
    """Return whether the reasoning of the last answer, or of an answer with a tool call, is printed."""
    said = replace(_SAY, reasoning="probe reasoning")
    called = Message("assistant", "", reasoning="probe reasoning", tool_calls=(_CALL,))
    probes = (([_ASK, said], False), ([_ASK, called, _RESULT], True))
    return any(_shows(render, messages, shape, "reasoning", 1, tools=tools) for messages, tools in probes)
