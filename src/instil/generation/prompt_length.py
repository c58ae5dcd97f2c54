"""Prompts that are too long for the model: left out, shortened or refused, as training does with its examples.

A prompt fits if it leaves room for at least one token of the answer. What does not fit is counted and named, so a file
with one long row is still answered.

Why: the oldest exchanges are dropped by the same rule as `data.too_long: keep_last_turns`, so the model is asked what
it was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from instil.conversation import Conversation, Place
from instil.encoding.truncation import without_oldest
from instil.errors import EncodingError, GenerationError, TemplateError
from instil.generation.prompts import Prompt
from instil.units import counted

TooLongPrompt: TypeAlias = Literal["drop", "keep_last_turns", "refuse"]
NUM_PLACES = 5
"""Places that a summary names."""


@dataclass(frozen=True, slots=True)
class LongPrompt:
    """A prompt that did not fit.

    Attributes:
        index: Its position among the prompts.
        place: Place of its row.
        num_tokens: Tokens of the whole prompt.
    """

    index: int
    place: Place | None
    num_tokens: int

    def __str__(self) -> str:
        """Return the place and the number of tokens."""
        return f"{self.place or f'prompt {self.index + 1}'} ({self.num_tokens:,} tokens)"


@dataclass(frozen=True, slots=True)
class FittedPrompts:
    """Prompts after the length policy.

    Attributes:
        prompts: Those that fit, in order.
        indices: The position of each among all prompts.
        left_out: Those that were left out.
        shortened: Those that lost their oldest exchanges; they are among `prompts`.
        limit: The model's context length.
    """

    prompts: tuple[Prompt, ...]
    indices: tuple[int, ...]
    left_out: tuple[LongPrompt, ...] = ()
    shortened: tuple[LongPrompt, ...] = ()
    limit: int | None = None

    def summary(self) -> list[str]:
        """Return a line about the prompts that were left out and one about those that were shortened."""
        kinds = (("left out", self.left_out), ("shortened to their last turns", self.shortened))
        return [
            f"{counted(len(long), 'prompt')} {what}: longer than the context of {self.limit:,} tokens allows "
            f"({', '.join(map(str, long[:NUM_PLACES]))}{', …' if len(long) > NUM_PLACES else ''})"
            for what, long in kinds
            if long
        ]


def fit_prompts(
    prompts: Sequence[Prompt],
    encode: Callable[[Conversation], Sequence[int]],
    *,
    limit: int | None,
    too_long: TooLongPrompt = "drop",
) -> FittedPrompts:
    """Apply the length policy to prompts.

    Args:
        prompts: The prompts.
        encode: Returns the ids of a conversation that ends where the model's turn begins.
        limit: The context length, prompt and answer together; None for a model without one.
        too_long: Leave a prompt out that is too long, drop its oldest exchanges until it fits, or refuse it.

    Raises:
        GenerationError: If one is too long and the policy is to refuse. The message starts with its place.
    """
    if limit is None:
        return FittedPrompts(tuple(prompts), tuple(range(len(prompts))))
    kept: list[Prompt] = []
    indices: list[int] = []
    left_out: list[LongPrompt] = []
    shortened: list[LongPrompt] = []
    for index, prompt in enumerate(prompts):
        num_tokens = _length(prompt.conversation, encode)
        if num_tokens is None or num_tokens < limit:
            kept.append(prompt)
            indices.append(index)
            continue
        long = LongPrompt(index, prompt.place, num_tokens)
        if too_long == "refuse":
            raise GenerationError(
                f"{prompt.place or f'prompt {index + 1}'}: the prompt has {num_tokens:,} tokens. The model's context is "
                f"{limit:,}, answer included. Shorten it, or use --too-long drop or keep_last_turns."
            )
        shorter = _shortened(prompt, encode, limit) if too_long == "keep_last_turns" else None
        if shorter is None:
            left_out.append(long)
            continue
        kept.append(shorter)
        indices.append(index)
        shortened.append(long)
    return FittedPrompts(tuple(kept), tuple(indices), tuple(left_out), tuple(shortened), limit)


def _length(conversation: Conversation, encode: Callable[[Conversation], Sequence[int]]) -> int | None:
    """Return the number of tokens; None if the template refuses the conversation, which is reported elsewhere."""
    try:
        return len(encode(conversation))
    except (TemplateError, EncodingError):
        return None


def _shortened(prompt: Prompt, encode: Callable[[Conversation], Sequence[int]], limit: int) -> Prompt | None:
    """Return the prompt without its oldest exchanges, or None if even the last one is too long."""
    if prompt.conversation.plain:
        return None
    for kept in without_oldest(prompt.conversation.messages):
        conversation = replace(prompt.conversation, messages=tuple(message for _, message in kept))
        num_tokens = _length(conversation, encode)
        if num_tokens is not None and num_tokens < limit:
            return replace(prompt, conversation=conversation)
    return None
