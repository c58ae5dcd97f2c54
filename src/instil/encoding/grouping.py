"""Which turns share an example.

Turn *i* is trained inside turn *j*'s example exactly if *j*'s prompt begins, token for token, with *i*'s prompt and completion; otherwise
serving would never show the one behind the other. Going from the last turn back and opening an example only for a turn that no open
one contains gives the fewest examples there can be. A turn is held against the earliest turn of an example, so that no two spans of it
touch or overlap. Questionable on purpose: nothing here knows of templates; ids decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EncodedTurn:
    """One assistant turn in ids.

    Attributes:
        index: The turn's message index.
        prompt_ids: What serving would give the model.
        completion_ids: What the model must write, the stop token last.
        weight: Weight of each completion token.
    """

    index: int
    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Group:
    """Turns that share an example, the one whose prompt contains the others last."""

    turns: tuple[EncodedTurn, ...]

    @property
    def token_ids(self) -> list[int]:
        """The example's ids."""
        return [*self.turns[-1].prompt_ids, *self.turns[-1].completion_ids]

    @property
    def weights(self) -> list[float]:
        """The example's weights: each turn's on its completion, 0 elsewhere."""
        last = self.turns[-1]
        weights = [0.0] * (len(last.prompt_ids) + len(last.completion_ids))
        for turn in self.turns:
            start = len(turn.prompt_ids)
            weights[start : start + len(turn.completion_ids)] = [turn.weight] * len(turn.completion_ids)
        return weights


def group_turns(turns: Sequence[EncodedTurn]) -> list[Group]:
    """Put turns into as few examples as serving's prompts allow.

    Args:
        turns: In the order of the conversation.

    Returns:
        The groups, in the order of their last turns; every turn in exactly one.

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
    groups: list[list[EncodedTurn]] = []
    for turn in reversed(turns):
        for group in groups:
            if holds(group[-1].prompt_ids, turn):
                group.append(turn)
                break
        else:
            groups.append([turn])
    return [Group(tuple(reversed(group))) for group in reversed(groups)]


def holds(prompt_ids: Sequence[int], turn: EncodedTurn) -> bool:
    """Tell whether a later prompt goes on after a turn's prompt and completion.

    A prompt that ends with them goes on with nothing (two turns of the assistant without a header): one could not be told from the other.
    """
    start = len(turn.prompt_ids)
    end = start + len(turn.completion_ids)
    return (
        len(prompt_ids) > end and prompt_ids[start:end] == turn.completion_ids and prompt_ids[:start] == turn.prompt_ids
    )
