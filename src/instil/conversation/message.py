"""One turn of a conversation: Message, and the ToolCalls that it makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "developer", "user", "assistant", "tool")


class _Empty(Mapping[str, Any]):
    """An empty read-only mapping to use as a default. Unlike a mappingproxy it can be pickled and copied."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "{}"


EMPTY: Mapping[str, Any] = _Empty()


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool by the assistant.

    Attributes:
        name: Name of the function.
        arguments: A JSON object. Reading parses a JSON string; a string that is not a JSON object stays as it is.
        id: Call id, if the data has one.
        extra: Other keys of the call. Keys that stood inside ``function`` get the prefix ``function.``.
    """

    name: str
    arguments: Mapping[str, Any] | str
    id: str | None = None
    extra: Mapping[str, Any] = field(default=EMPTY)


@dataclass(frozen=True, slots=True)
class PartWeight:
    """The loss weight of a part of one turn's text; it multiplies the turn's own.

    Attributes:
        field: Where the text stands, as origins name it: ``content``, ``content.1.text`` (its second part) or
            ``reasoning``.
        start: First character of the part, counted in that text.
        end: Behind its last character.
        weight: Loss weight, ≥ 0.
    """

    field: str
    start: int
    end: int
    weight: float


@dataclass(frozen=True, slots=True)
class Message:
    """One turn.

    Attributes:
        role: Who speaks. Other names (human, gpt, ipython, observation, function …) are mapped on reading.
        content: Text, a tuple of parts (``{"type": "text", "text": …}``), or None if the turn is only a tool call.
        reasoning: The assistant's reasoning before its answer, without tags.
        tool_calls: Calls that the assistant makes in this turn.
        tool_call_id: In a tool message, the id of the call that it answers.
        name: Name of the speaker or of the tool.
        weight: Loss weight of this turn, ≥ 0; None means 1. Only assistant turns are trained.
        extra: Other keys, which the template may read. They are kept so that conversion loses nothing.
        reasoning_name: The key that held the reasoning in data of the messages format, which templates read unchanged.
            None: the template may receive the reasoning under any name.
        part_weights: Parts of the text whose weight is not 1. They do not overlap.
    """

    role: Role
    content: str | tuple[Mapping[str, Any], ...] | None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    weight: float | None = None
    extra: Mapping[str, Any] = field(default=EMPTY)
    reasoning_name: str | None = field(default=None, compare=False)
    part_weights: tuple[PartWeight, ...] = ()
