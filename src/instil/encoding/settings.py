"""How conversations become examples: the encoder's part of a recipe, and the counts that the encoder reports.

These are plain values, so neither the encoder nor `chat`, `generate` and `serve` need a recipe.

Why: `template_variables` and `date` are settings rather than properties of the template, because they must be the
same in training and in serving.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from instil.conversation import EMPTY
from instil.conversation.field_checks import template_input_in
from instil.errors import EncodingError

if TYPE_CHECKING:
    from instil.recipe import DataSettings

TrainOn: TypeAlias = Literal["assistant", "last", "all"]
RenderedPolicy: TypeAlias = Literal["read", "keep", "refuse"]
TooLong: TypeAlias = Literal["drop", "keep_last_turns", "truncate_answer", "split", "refuse"]


@dataclass(frozen=True, slots=True)
class EncodingSettings:
    """Settings of the encoder; each field is the recipe's ``data.<field>`` of the same name, described there."""

    train_on: TrainOn = "assistant"
    history_rewritten: Literal["every_turn", "last_turn", "refuse"] = "every_turn"
    inline_reasoning: Literal["split", "keep"] = "split"
    typed_control_tokens: Literal["escape", "keep", "refuse"] = "escape"
    rendered_rows: RenderedPolicy = "read"
    template_variables: Mapping[str, Any] = field(default=EMPTY)
    date: str | None = None
    max_tokens: int | None = None
    too_long: TooLong | None = None
    dropped_text: Literal["refuse", "accept"] = "refuse"

    def __post_init__(self) -> None:
        """Check that no template variable replaces what the template is given.

        Raises:
            EncodingError: If one does.
        """
        name = template_input_in(self.template_variables)
        if name is not None:
            raise EncodingError(
                f"EncodingSettings.template_variables: found {name}. Expected variables of the template, such as "
                "enable_thinking; a conversation brings its own messages and tools. Remove it."
            )

    @classmethod
    def from_recipe(cls, data: DataSettings) -> EncodingSettings:
        """Return the encoder's part of a recipe's ``data`` settings."""
        return cls(**{setting.name: getattr(data, setting.name) for setting in fields(cls)})


@dataclass(slots=True)
class EncodingReport:
    """Counts of what the encoder noticed; they grow as conversations are encoded.

    Attributes:
        conversations: Conversations encoded.
        examples: Examples made of them.
        escaped: Typed control tokens that were made ordinary text.
        inline_reasoning: Answers whose ``<think>…</think>`` was moved into `reasoning`.
        reasoning_ignored: Turns whose reasoning the template does not print.
        dropped_text: Texts that the template does not print, where `dropped_text: accept` allows it.
        developer_as_system: Developer messages given to the template as system messages.
        history_rewritten: Conversations that needed more than one example.
        untrained_turns: Assistant turns that serving never asks for: those that a conversation starts with.
        trailing_turns: Conversations that do not end with an assistant turn; their last turn is not in any example.
        dropped: Examples left out because they are too long.
        shortened: Examples shortened because they were too long.
        example_tokens: Tokens of all examples.
        rendering_tokens: Tokens of the conversations rendered once.
    """

    conversations: int = 0
    examples: int = 0
    escaped: int = 0
    inline_reasoning: int = 0
    reasoning_ignored: int = 0
    dropped_text: int = 0
    developer_as_system: int = 0
    history_rewritten: int = 0
    untrained_turns: int = 0
    trailing_turns: int = 0
    dropped: int = 0
    shortened: int = 0
    example_tokens: int = 0
    rendering_tokens: int = 0

    @property
    def token_factor(self) -> float:
        """Tokens of the examples per token of the conversations rendered once; 1 if no history is rewritten."""
        return self.example_tokens / self.rendering_tokens if self.rendering_tokens else 1.0

    def add(self, other: EncodingReport) -> None:
        """Add another report's counts to this one's."""
        for count in fields(self):
            setattr(self, count.name, getattr(self, count.name) + getattr(other, count.name))

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name, for the ledger."""
        return {count.name: getattr(self, count.name) for count in fields(self)}
