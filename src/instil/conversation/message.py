"""One turn of a conversation: Message, and the ToolCalls that it makes.

Why: the usual message, text and nothing else, passes its check on one line, because preparation makes millions of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from instil.conversation.field_checks import check_keys, check_text, check_weight, wrong
from instil.errors import nearest

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
_NOTHING: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool by the assistant.

    Attributes:
        name: Name of the function.
        arguments: A JSON object. Reading parses a JSON string; a string that is not a JSON object stays as it is.
        id: Call id, if the data has one.
        extra: Other keys of the call. Keys that stood inside ``function`` get the prefix ``function.``.

    Raises:
        DataError: If a value has the wrong type, or the name is empty.
    """

    name: str
    arguments: Mapping[str, Any] | str
    id: str | None = None
    extra: Mapping[str, Any] = field(default=EMPTY)

    def __post_init__(self) -> None:
        """Check the values."""
        if not isinstance(self.name, str) or not self.name:
            raise wrong("ToolCall.name", self.name, "the name of a function as text")
        if type(self.arguments) is not str and self.arguments is not EMPTY:
            check_keys("ToolCall.arguments", self.arguments, "a mapping, or JSON as text")
        if self.id is not None:
            check_text("ToolCall.id", self.id)
        if self.extra is not EMPTY:
            check_keys("ToolCall.extra", self.extra)


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
        content: Text, parts (``{"type": "text", "text": …}``), or None if the turn is only a tool call.
        reasoning: The assistant's reasoning before its answer, without tags.
        tool_calls: Calls that the assistant makes in this turn.
        tool_call_id: In a tool message, the id of the call that it answers.
        name: Name of the speaker or of the tool.
        weight: Loss weight of this turn, ≥ 0; None means 1. Only assistant turns are trained.
        extra: Other keys, which the template may read. They are kept so that conversion loses nothing.
        reasoning_name: The key that held the reasoning in data of the messages format, which templates read unchanged.
            None: the template may receive the reasoning under any name.
        part_weights: Parts of the text whose weight is not 1. They do not overlap.

    Raises:
        DataError: If a value has the wrong type, or the role is unknown.

    Example:
        >>> Message("assistant", "4", reasoning="2+2").content
        '4'
    """

    role: Role
    content: str | tuple[Mapping[str, Any], ...] | None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = _NOTHING
    tool_call_id: str | None = None
    name: str | None = None
    weight: float | None = None
    extra: Mapping[str, Any] = field(default=EMPTY)
    reasoning_name: str | None = field(default=None, compare=False)
    part_weights: tuple[PartWeight, ...] = _NOTHING

    def __post_init__(self) -> None:
        """Check the values; a list becomes a tuple."""
        if not (
            type(self.content) is str
            and type(self.role) is str
            and self.role in ROLES
            and self.extra is EMPTY
            and self.weight is self.reasoning is self.tool_call_id is self.name is None
            and self.tool_calls is self.part_weights is _NOTHING
        ):
            self._check()

    def _check(self) -> None:
        """Check every value.

        Raises:
            DataError: As the class says.
        """
        if not isinstance(self.role, str) or self.role not in ROLES:
            hint = nearest(self.role.strip().lower(), ROLES) if isinstance(self.role, str) else ""
            raise wrong("Message.role", self.role, "system, developer, user, assistant or tool", f"Correct it{hint}.")
        if isinstance(self.content, list):
            object.__setattr__(self, "content", tuple(self.content))
        if self.content is not None and not isinstance(self.content, str):
            _check_parts(self.content)
        for key in ("reasoning", "tool_call_id", "name", "reasoning_name"):
            check_text(f"Message.{key}", getattr(self, key))
        if self.weight is not None:
            check_weight("Message.weight", self.weight)
        check_keys("Message.extra", self.extra)
        for key, kind in (("tool_calls", ToolCall), ("part_weights", PartWeight)):
            object.__setattr__(self, key, _records_of(kind, f"Message.{key}", getattr(self, key)))


def _check_parts(parts: object) -> None:
    if not isinstance(parts, tuple):
        raise wrong("Message.content", parts, "text, a list of text parts, or None")
    for part in parts:
        # Templates take images and the like too; encoding refuses what is not text.
        is_text = isinstance(part, Mapping) and isinstance(part.get("text"), str)
        if not is_text and not (isinstance(part, Mapping) and part.get("type", "text") != "text"):
            raise wrong("Message.content", part, 'parts such as {"type": "text", "text": "…"}')


def _records_of(kind: type, field_name: str, values: object) -> tuple[Any, ...]:
    """Return a list of records as a tuple."""
    if not isinstance(values, list | tuple) or not all(isinstance(value, kind) for value in values):
        remedy = "Dicts are read by Conversation(messages=[…])."
        raise wrong(field_name, values, f"a list of {kind.__name__}s", remedy)
    return tuple(values)
