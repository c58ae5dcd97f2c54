"""The weight of every token, in aligned tables."""

from __future__ import annotations

import numpy as np
import pytest

from instil.conversation import Example, Message
from instil.encoding.weights import (
    TrainedSpan,
    example_weights,
    scale_weights,
    train_every_token,
    trained_turns,
    turn_weight,
    weights_of_part,
)

A, B, C = Message("assistant", "a"), Message("assistant", "b", weight=0.5), Message("assistant", "c", weight=0.0)
U = Message("user", "u")


@pytest.mark.parametrize(
    ("message", "weight"), [(A, 1.0), (B, 0.5), (C, 0.0), (U, 0.0), (Message("user", "u", weight=1.0), 0.0)]
)
def test_only_the_assistants_messages_have_weight(message: Message, weight: float) -> None:
    assert turn_weight(message) == weight


@pytest.mark.parametrize(
    ("messages", "train_on", "turns"),
    [
        ([U, A, U, B], "assistant", [(1, 1.0), (3, 0.5)]),
        ([U, A, U, B], "all",       [(1, 1.0), (3, 0.5)]),
        ([U, A, U, B], "last",      [(3, 0.5)]),
        ([U, A, U, C], "assistant", [(1, 1.0)]),
        ([U, A, U, C], "last",      []),
        ([U, A, U],    "last",      [(1, 1.0)]),
        ([U],          "assistant", []),
    ],
)  # fmt: skip
def test_which_turns_are_trained(messages: list[Message], train_on: str, turns: list[tuple[int, float]]) -> None:
    assert trained_turns(messages, train_on=train_on) == turns  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spans", "weights"),
    [
        ([],                                     [0.0, 0.0, 0.0, 0.0, 0.0]),
        ([TrainedSpan(3, 5)],                    [0.0, 0.0, 0.0, 1.0, 1.0]),
        ([TrainedSpan(1, 2), TrainedSpan(4, 5)], [0.0, 1.0, 0.0, 0.0, 1.0]),
        ([TrainedSpan(2, 4, 0.25)],              [0.0, 0.0, 0.25, 0.25, 0.0]),
        ([TrainedSpan(0, 2)],                    [0.0, 1.0, 0.0, 0.0, 0.0]),  # nothing precedes the first token
    ],
)  # fmt: skip
def test_a_span_gives_its_tokens_their_weight(spans: list[TrainedSpan], weights: list[float]) -> None:
    assert example_weights(5, spans) == weights


@pytest.mark.parametrize(
    ("before", "num_tokens", "after"),
    [
        ([0.0, 0.0, 0.5], 3, [0.0, 1.0, 0.5]),
        ([0.0, 0.0, 1.0], 5, [0.0, 1.0, 1.0, 1.0, 1.0]),  # the turns after the last answer
        ([1.0],           1, [0.0]),
        ([],              0, []),
    ],
)  # fmt: skip
def test_training_on_all_leaves_the_first_token_alone(before: list[float], num_tokens: int, after: list[float]) -> None:
    assert train_every_token(before, num_tokens=num_tokens) == after


def test_the_first_token_of_a_part_is_context() -> None:
    weights = [0.0, 1.0, 0.5, 0.5]
    assert weights_of_part(weights, 1, 4) == [0.0, 0.5, 0.5]
    assert weights == [0.0, 1.0, 0.5, 0.5]


def test_a_sources_weight_multiplies_in_float32() -> None:
    example = Example([5, 6, 7], [0.0, 1.0, 0.1], turns=(1,))
    assert scale_weights(example, 1.0) is example
    scaled = scale_weights(example, 0.3)
    assert scaled.turns == (1,)
    assert list(scaled.weights) == [0.0, np.float32(0.3), np.float32(0.1) * np.float32(0.3)]
