"""Which turns share an example, on ids alone."""

from __future__ import annotations

import pytest

from instil.encoding.grouping import EncodedTurn, extends, group_turns
from instil.encoding.weights import TrainedSpan

FIRST = EncodedTurn(1, [1, 2], [3, 9])


@pytest.mark.parametrize(
    ("prompt_ids", "expected"),
    [
        ([1, 2, 3, 9, 1], True),
        ([1, 2, 3, 9],    False),  # it continues with nothing
        ([1, 2, 3],       False),
        ([1, 2],          False),
        ([],              False),
        ([1, 2, 3, 8, 1], False),  # another stop token
        ([1, 7, 3, 9, 1], False),  # the prompt was rewritten
        ([2, 3, 9, 1],    False),
    ],
)  # fmt: skip
def test_a_prompt_extends_a_turn_if_it_begins_with_all_of_it_and_continues(
    prompt_ids: list[int], expected: bool
) -> None:
    assert extends(prompt_ids, FIRST) is expected


@pytest.mark.parametrize(
    ("turns", "groups"),
    [
        ([],                                                                             []),
        ([([1], [9])],                                                                   [[1]]),
        ([([1], [3, 9]), ([1, 3, 9, 1], [4, 9])],                                        [[1, 3]]),
        ([([1], [3, 9]), ([1, 8, 9, 1], [4, 9])],                                        [[1], [3]]),
        ([([1], [3, 9]), ([1, 3, 9, 1], [4, 9]), ([1, 3, 9, 1, 4, 9, 1], [5, 9])],       [[1, 3, 5]]),
        # the last turn drops what was in the second, not what was in the first
        ([([1], [3, 9]), ([1, 3, 9, 1], [7, 4, 9]), ([1, 3, 9, 1, 4, 9, 1], [5, 9])],    [[3], [1, 5]]),
        # the second turn's prompt was rewritten, the third's was not
        ([([1], [3, 9]), ([2, 3, 9, 1], [4, 9]), ([1, 3, 9, 1, 4, 9, 1], [5, 9])],       [[3], [1, 5]]),
        # two answers without a header between them would touch
        ([([1], [3, 9]), ([1, 3, 9], [4, 9])],                                           [[1], [3]]),
    ],
)  # fmt: skip
def test_turns_are_put_into_as_few_examples_as_the_prompts_allow(
    turns: list[tuple[list[int], list[int]]], groups: list[list[int]]
) -> None:
    encoded = [EncodedTurn(2 * at + 1, prompt, completion) for at, (prompt, completion) in enumerate(turns)]
    made = group_turns(encoded)
    assert [[turn.index for turn in group.turns] for group in made] == groups
    assert sorted(turn.index for group in made for turn in group.turns) == [turn.index for turn in encoded]


def test_a_group_has_the_ids_of_its_last_turn_and_a_span_for_each_turn() -> None:
    (group,) = group_turns([FIRST, EncodedTurn(3, [1, 2, 3, 9, 1], [4, 5, 9], weight=0.5)])
    assert group.token_ids == [1, 2, 3, 9, 1, 4, 5, 9]
    assert group.spans == [TrainedSpan(2, 4, 1.0), TrainedSpan(5, 8, 0.5)]
