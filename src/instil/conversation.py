"""The records that packages exchange: Place, Message, Conversation, Example.

`data` reads rows into a `Conversation`, `template` renders it, `encoding` turns it into `Example`s. The docstrings here
are the contract between these packages.

Why: plain text and code are conversations too (`plain=True`), so that one pipeline, ledger and store handle all data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "developer", "user", "assistant", "tool")
IGNORED = -100
"""The label of a token that is context only, as in Hugging Face's losses."""
ROWS = "rows"
"""The source of a place in rows that a Python program passed. No file can have this name, because it has no suffix."""


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
class Place:
    """The source and row that a conversation came from.

    Attributes:
        source: File path, ``<stdin>`` or data-set id, as the user named it.
        row: Line number in a line-based file, else the row's number; both count from 1. Rows from memory are written
            with their index in Python, which counts from 0.
        part: Index (from 0) if one row contains several conversations, else None.

    Example:
        >>> str(Place("train.jsonl", 412))
        'train.jsonl:412'
        >>> str(Place(ROWS, 13))
        'rows[12]'
    """

    source: str
    row: int
    part: int | None = None

    def __str__(self) -> str:
        row = f"[{self.row - 1}]" if self.source == ROWS else f":{self.row}"
        return f"{self.source}{row}" + ("" if self.part is None else f"[{self.part}]")


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


@dataclass(frozen=True, slots=True)
class Example:
    """The tokens of one training sequence, with the weight of each.

    ``weights[t]`` is the weight of *predicting* ``token_ids[t]`` from the tokens before it; 0 means context only.
    Nothing is shifted here: the loss shifts once. ``weights[0]`` is 0, because no token precedes the first one.

    Attributes:
        token_ids: T ids. The prompt part equals the ids that serving would send to the model.
        weights: T weights, ≥ 0.
        place: The conversation's place.
        turns: Indices of the messages trained in this example, in order.
        shortened: None, or how it was shortened: ``"kept_last_turns"``, ``"truncated_answer"``, ``"split"``.
        escaped: Number of control tokens typed in the data that were encoded as ordinary text.
        dropped: What the template did not print of the conversation, where `data.dropped_text` accepts that. A store
            does not keep it.
    """

    token_ids: Sequence[int]
    weights: Sequence[float]
    place: Place | None = None
    turns: tuple[int, ...] = ()
    shortened: str | None = None
    escaped: int = 0
    dropped: tuple[str, ...] = ()

    def labels(self, ignored: int = IGNORED) -> list[int]:
        """Return the labels for Hugging Face's models: each trained token's id, and `ignored` elsewhere.

        They are not shifted; those models shift them. Weights other than 0 and 1 are lost (see `weights`).

        Args:
            ignored: Label of tokens that are context only.

        Example:
            >>> Example([5, 6, 7], [0.0, 1.0, 1.0]).labels()
            [-100, 6, 7]
        """
        pairs = zip(self.token_ids, self.weights, strict=True)
        return [int(token_id) if weight > 0 else ignored for token_id, weight in pairs]

    def to_tensors(self) -> dict[str, Tensor]:
        """Return ``input_ids`` [T] and ``labels`` [T] as int64, and ``weights`` [T] as float32."""
        import torch  # Why: the records are used without torch.

        return {
            "input_ids": torch.tensor([int(token_id) for token_id in self.token_ids], dtype=torch.int64),
            "labels": torch.tensor(self.labels(), dtype=torch.int64),
            "weights": torch.tensor([float(weight) for weight in self.weights], dtype=torch.float32),
        }
