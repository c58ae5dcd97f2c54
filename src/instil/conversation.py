"""The records that travel: Place, Message, Conversation, Example.

Formats read rows into `Conversation`; the template renders it; the encoder makes `Example`s of it. Their docstrings are
the contract between the packages. Questionable on purpose: plain text and code are conversations too (`plain=True`),
so that one pipeline, one ledger and one store serve everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "developer", "user", "assistant", "tool")


class _Empty(Mapping[str, Any]):
    """A mapping with nothing in it that can be a default, be pickled and be copied; a mappingproxy cannot."""

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
class Place:
    """Where a row came from.

    Attributes:
        source: File path, ``<stdin>`` or data-set id, as the person named it.
        row: Line number of a line-based file, else the row's number; both count from 1.
        part: Number (from 0) where one row gives several conversations, else None.

    Example:
        >>> str(Place("train.jsonl", 412))
        'train.jsonl:412'
    """

    source: str
    row: int
    part: int | None = None

    def __str__(self) -> str:
        return f"{self.source}:{self.row}" + ("" if self.part is None else f"[{self.part}]")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool by the assistant.

    Attributes:
        name: Name of the function.
        arguments: A JSON object. A JSON string in the data is parsed when it is read; one that does not parse to an
            object stays the string that it was.
        id: Call id, where the data has one.
        extra: Keys beyond these; those that stood beside the name inside ``function`` begin with ``function.``.
    """

    name: str
    arguments: Mapping[str, Any] | str
    id: str | None = None
    extra: Mapping[str, Any] = field(default=EMPTY)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn.

    Attributes:
        role: Who speaks. Outside names (human, gpt, ipython, observation, function …) are mapped when read.
        content: Text, or a tuple of parts (``{"type": "text", "text": …}``), or None where the turn is only a tool call.
        reasoning: What the assistant thought before it answered, without its tags.
        tool_calls: Calls that the assistant makes in this turn.
        tool_call_id: On a tool message, the id of the call that it answers.
        name: Name of the speaker or of the tool.
        weight: Loss weight of this turn, ≥ 0; None means 1. Only assistant turns are trained.
        extra: Keys beyond these that the template may read; kept so that conversion loses nothing.
        reasoning_name: Key that the reasoning had in data that templates read as they are (the messages format); None: any will do.
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


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages, the tools they may call, template variables, and the place they came from.

    Attributes:
        messages: Turns in order; at least one.
        tools: JSON-schema tool definitions as transformers takes them, or empty. ``tools: []`` in data is the same as none.
        variables: Template variables of this row (``enable_thinking``, ``documents`` …); they override the recipe's.
        place: Where the row came from; None for one made in code.
        plain: No template: the contents are laid end to end, user text is context, assistant text is trained, and the
            end-of-text token follows the last one. Text, code and raw prompt/completion rows are plain.
        extra: Columns of the row that no field holds; kept so that conversion loses nothing.
    """

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    variables: Mapping[str, Any] = field(default=EMPTY)
    place: Place | None = None
    plain: bool = False
    extra: Mapping[str, Any] = field(default=EMPTY)


@dataclass(frozen=True, slots=True)
class Example:
    """What one forward pass sees of a conversation, and which tokens it learns to write.

    ``weights[t]`` is the weight of *predicting* ``token_ids[t]`` from the tokens before it; 0 means context only.
    Nothing is shifted here: the loss shifts once. ``weights[0]`` is 0, for nothing precedes it.

    Attributes:
        token_ids: T ids; the prompt part equals what serving would make.
        weights: T weights, ≥ 0.
        place: The conversation's place.
        turns: Indices of the messages trained in this example, in order.
        shortened: None, or how it was shortened: ``"kept_last_turns"``, ``"truncated_answer"``, ``"split"``.
        escaped: Number of typed control tokens that were made ordinary text in it.
    """

    token_ids: Sequence[int]
    weights: Sequence[float]
    place: Place | None = None
    turns: tuple[int, ...] = ()
    shortened: str | None = None
    escaped: int = 0
