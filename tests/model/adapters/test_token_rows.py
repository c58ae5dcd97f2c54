from __future__ import annotations

import pytest
import torch
from tests.model.adapted_models import adapted, examples_with_new_tokens
from tests.model.flat_batches import loss_of

from instil.model.loss.token_loss import TokenLoss


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_row_arithmetic_equals_pefts_own(tied: bool) -> None:
    from peft.tuners.trainable_tokens.layer import TrainableTokensLayer

    from instil.model.adapters.token_rows import layer_classes

    _, RowsOverTable = layer_classes()
    results = []
    for kind in (RowsOverTable, TrainableTokensLayer):
        model, _ = adapted("gemma3_text" if tied else "llama", tied=tied)
        layers = [module for module in model.modules() if type(module) is RowsOverTable]
        assert len(layers) == 2
        for layer in layers:
            layer.__class__ = kind
        loss = loss_of(TokenLoss(model), examples_with_new_tokens())
        loss.backward()
        results.append((loss, [value.grad for value in model.parameters() if value.grad is not None]))
    (first, first_gradients), (second, second_gradients) = results
    assert torch.allclose(first, second, rtol=1e-6)
    assert len(first_gradients) == len(second_gradients) > 4
    for one, other in zip(first_gradients, second_gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-5, rtol=1e-4)
