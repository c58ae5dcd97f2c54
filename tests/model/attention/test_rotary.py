from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.model.flat_batches import loss_of
from tests.model.tiny import random_examples, tiny_model

from instil.errors import ModelError
from instil.model.loss.token_loss import TokenLoss
from instil.model.probe import probe


def scaled(kind: str) -> Any:
    factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4} if kind == "longrope" else {"factor": 4.0}
    rope = {"rope_type": kind, "rope_theta": 10000.0, "original_max_position_embeddings": 16, **factors}
    long = {"max_position_embeddings": 64 if kind == "longrope" else 16}
    return tiny_model("llama", rope_parameters=rope, **long)


def test_frequencies_by_length_let_a_long_example_change_a_short_one_beside_it() -> None:
    model = scaled("longrope")
    short, long = random_examples([9, 20])
    module = TokenLoss(model)
    alone = loss_of(module, [short]) + loss_of(module, [long])
    assert not torch.allclose(loss_of(module, [short, long]), alone, rtol=1e-4)
    found = probe(model, longest=20)
    assert found.one_by_one
    assert "rotary" in found.words
    assert not probe(model, longest=16).one_by_one
    assert not probe(model, longest=16, processes=2).one_by_one
    with pytest.raises(ModelError, match=r"parallel\.sequence: 2, .*rotary frequencies depend on the length"):
        probe(model, longest=20, processes=2)


def test_frequencies_that_grow_with_what_came_before_are_refused_for_long_examples() -> None:
    assert not probe(scaled("dynamic"), longest=16).one_by_one
    with pytest.raises(ModelError, match=r"data\.max_tokens: 16"):
        probe(scaled("dynamic"), longest=17)
