from __future__ import annotations

import pytest
import torch
from tests.model.flat_batches import loss_of
from tests.model.tiny import random_examples, tiny_model

from instil.errors import ModelError
from instil.model.loss.token_loss import TokenLoss


def test_router_loss_of_one_example_is_transformers_own() -> None:
    model = tiny_model("qwen3_moe")
    ids, _ = random_examples([12])[0]
    weights = torch.ones(12)
    loss = loss_of(TokenLoss(model, router_coefficient=0.5), [(ids, weights)]) / 11
    model.set_attn_implementation("eager")
    model.router_aux_loss_coef = 0.5
    own = model(input_ids=ids[None], labels=ids[None], output_router_logits=True).loss
    assert torch.allclose(loss, own, rtol=1e-5)


def test_router_loss_is_off_unless_asked_for() -> None:
    examples = random_examples([12])
    off, on = tiny_model("mixtral"), tiny_model("mixtral", output_router_logits=True, router_aux_loss_coef=0.5)
    assert loss_of(TokenLoss(on), examples) > loss_of(TokenLoss(off), examples)
    assert torch.equal(loss_of(TokenLoss(on, router_coefficient=0.0), examples), loss_of(TokenLoss(off), examples))


def test_router_loss_for_a_dense_model_is_refused() -> None:
    with pytest.raises(ModelError, match="no load-balancing loss"):
        TokenLoss(tiny_model("llama"), router_coefficient=0.1)
