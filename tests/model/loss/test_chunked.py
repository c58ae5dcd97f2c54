from __future__ import annotations

import pytest
import torch
from tests.model.flat_batches import ONE_ROW, assert_same, gradients_of, loss_of
from tests.model.tiny import random_examples, tiny_model

from instil.model.loss.token_loss import TokenLoss


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "granite"])
@pytest.mark.parametrize("kind", ["cross_entropy", "dft"])
def test_chunks_change_nothing(name: str, kind: str) -> None:
    model = tiny_model(name)
    examples = random_examples([9, 14])
    whole = loss_of(TokenLoss(model, loss=kind), examples)
    whole.backward()
    gradients = gradients_of(model)
    for rows in (1, 3):
        cut = loss_of(TokenLoss(model, loss=kind, chunk_bytes=rows * ONE_ROW), examples)
        cut.backward()
        assert torch.allclose(cut, whole, rtol=1e-6)
        assert_same(gradients_of(model), gradients)


def test_head_never_sees_more_than_a_chunk_nor_an_untrained_row() -> None:
    model = tiny_model("gemma2")
    seen: list[int] = []
    model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-2]))
    examples = random_examples([20, 20])
    trained = sum(int((weights > 0).sum()) for _, weights in examples)
    loss_of(TokenLoss(model, chunk_bytes=4 * ONE_ROW), examples).backward()
    assert max(seen) == 4
    assert sum(seen) == trained < 39


@pytest.mark.parametrize("rows", [1, 4])
def test_chunks_change_little_in_bf16(rows: int) -> None:
    model = tiny_model("llama").to(torch.bfloat16)
    examples = random_examples([20, 15])
    found = []
    for chunk in (None, rows * ONE_ROW):
        loss_of(TokenLoss(model, chunk_bytes=chunk), examples).backward()
        found.append(gradients_of(model))
    for name, value in found[0].items():
        assert (value - found[1][name]).float().norm() <= 0.01 * value.float().norm().clamp_min(1e-3), name
