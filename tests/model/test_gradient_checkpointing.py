from __future__ import annotations

import pytest
from tests.model.flat_batches import LENGTHS, assert_same, gradients_of, loss_of
from tests.model.tiny import ARCHITECTURES, random_examples, tiny_model

from instil.model.gradient_checkpointing import set_gradient_checkpointing
from instil.model.loss.token_loss import TokenLoss


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradient_checkpointing_changes_nothing(name: str) -> None:
    model = tiny_model(name)
    module = TokenLoss(model)
    examples = random_examples(LENGTHS)
    loss_of(module, examples).backward()
    plain = gradients_of(model)
    set_gradient_checkpointing(model, True)
    loss_of(module, examples).backward()
    assert_same(gradients_of(model), plain)
