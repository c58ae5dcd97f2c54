from __future__ import annotations

import torch
import torch.nn.functional as F
from tests.model.flat_batches import assert_same, gradients_of, loss_of
from tests.model.tiny import random_examples, tiny_model

from instil.model.loss.token_loss import TokenLoss


def test_dft_is_cross_entropy_times_the_probability_without_its_gradient() -> None:
    model = tiny_model("llama")
    ids, weights = random_examples([15])[0]
    loss = loss_of(TokenLoss(model, loss="dft"), [(ids, weights)])
    loss.backward()
    ours = gradients_of(model)
    model.set_attn_implementation("eager")
    nll = F.cross_entropy(model(input_ids=ids[None]).logits[0, :-1], ids[1:], reduction="none")
    reference = (torch.exp(-nll).detach() * nll * weights[1:]).sum()
    reference.backward()
    assert torch.allclose(loss, reference, rtol=1e-5)
    assert_same(ours, gradients_of(model))
