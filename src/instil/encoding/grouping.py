"""Which turns share an example: the extension property.

A later prompt *extends* an earlier turn if it begins, token for token, with that turn's prompt and completion. Only
then would serving show the model both, so only then may the earlier turn be trained inside the later one's example.
Going back from the last turn, and opening an example only for a turn that no open one extends, gives the fewest
examples there can be.

Why: the decision is made on ids alone. A template that rewrites history (Qwen3, DeepSeek-R1) breaks the property by
what it prints, so no list of such templates is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from instil.encoding.weights import DEFAULT_WEIGHT, TrainedSpan

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EncodedTurn:
    """One assistant turn in ids.

    Attributes:
        index: The turn's message index.
        prompt_ids: Serving's prompt for the turn.
        completion_ids: What the model must generate, the stop token last.
        weight: Weight of each completion token.
        token_weights: Weight of each completion token where they differ; empty where all have `weight`.
    """

    index: int
    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]
    weight: float = DEFAULT_WEIGHT
    token_weights: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class TurnGroup:
    """Turns that share an example, in their order; the last one's prompt extends all the others."""

    turns: tuple[EncodedTurn, ...]

    @property
    def token_ids(self) -> list[int]:
        """The example's ids: the last turn's prompt and completion."""
        return [*self.turns[-1].prompt_ids, *self.turns[-1].completion_ids]

    @property
    def spans(self) -> list[TrainedSpan]:
        """Where each turn's completion lies in `token_ids`, with its weight: one span for each run of equal weights."""
        spans: list[TrainedSpan] = []
        for turn in self.turns:
            start = len(turn.prompt_ids)
            if not turn.token_weights:
                spans.append(TrainedSpan(start, start + len(turn.completion_ids), turn.weight))
            for weight, run in groupby(turn.token_weights):
                length = len(list(run))
                spans.append(TrainedSpan(start, start + length, weight))
                start += length
        return spans


def group_turns(turns: Sequence[EncodedTurn]) -> list[TurnGroup]:
    """Put turns into as few examples as serving's prompts allow.

    A turn is compared with the earliest turn of a group, so that no two spans of an example touch or overlap.

    Args:
        turns: In the order of the conversation.

    Returns:
        The groups, in the order of their last turns; every turn is in exactly one.

    Example:
        >>> one = EncodedTurn(1, [5, 6], [7, 8])
        >>> two = EncodedTurn(3, [5, 6, 7, 8, 5, 6], [9])
        >>> rewritten = EncodedTurn(3, [5, 6, 8, 5, 6], [9])
        >>> [len(group.turns) for group in group_turns([one, two])], len(group_turns([one, rewritten]))
        ([2], 2)
        >>> headless = EncodedTurn(2, [5, 6, 7, 8], [9]), EncodedTurn(4, [5, 6, 7, 8, 9, 5], [4])
        >>> [[turn.index for turn in group.turns] for group in group_turns([one, *headless])]
        [[1], [2, 4]]
    """
    groups = group_by_extension(turns, lambda later, earlier: extends(later.prompt_ids, earlier))
    return [TurnGroup(tuple(group)) for group in groups]


def group_by_extension(turns: Sequence[T], is_extended: Callable[[T, T], bool]) -> list[list[T]]:
    """Put turns into as few groups as the extension property allows; see `group_turns`.

    Args:
        turns: In the order of the conversation.
        is_extended: Whether the prompt of a later turn (first argument) extends an earlier turn (second argument).
    """
    groups: list[list[T]] = []  # each with its last turn first
    for turn in reversed(turns):
        for group in groups:
            if is_extended(group[-1], turn):
                group.append(turn)
                break
        else:
            groups.append([turn])
    return [group[::-1] for group in reversed(groups)]


def extends(prompt_ids: Sequence[int], turn: EncodedTurn) -> bool:
    """Return whether a later prompt begins with a turn's prompt and completion and continues after them.

    A prompt that ends with them continues with nothing: two assistant turns without a header between them. Trained in
    one example, they could not be told apart.
    """
    start = len(turn.prompt_ids)
    end = start + len(turn.completion_ids)
    return (
        len(prompt_ids) > end and prompt_ids[start:end] == turn.completion_ids and prompt_ids[:start] == turn.prompt_ids
    )
