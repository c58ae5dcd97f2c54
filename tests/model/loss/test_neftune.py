from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.model.tiny import random_examples, tiny_model

from instil.model.attention.layout import positions_of
from instil.model.loss.neftune import NoiseKey, example_noise
from instil.model.loss.token_loss import TokenLoss, targets_of


def noisy(model: Any, lengths: list[int], keys: list[NoiseKey] | None) -> torch.Tensor:
    examples = random_examples(lengths)
    ids = torch.cat([ids for ids, _ in examples])
    targets, weights = targets_of(ids, torch.cat([weights for _, weights in examples]), lengths)
    module = TokenLoss(model, neftune_alpha=5.0)
    return module(ids, positions_of(lengths), lengths, targets, weights, keys)


def test_noise_does_not_depend_on_the_cut() -> None:
    keys = [NoiseKey.of(0, 0, index, length=length) for index, length in enumerate([7, 4, 9])]
    flat = noisy(tiny_model("llama"), [7, 4, 9], keys)
    model = tiny_model("llama")
    examples = random_examples([7, 4, 9])
    module = TokenLoss(model, neftune_alpha=5.0)
    alone = torch.zeros(())
    for (ids, weights), key in zip(examples, keys, strict=True):
        targets, shifted = targets_of(ids, weights, [len(ids)])
        alone += module(ids, positions_of([len(ids)]), [len(ids)], targets, shifted, [key])
    assert torch.allclose(flat, alone, rtol=1e-5)
    assert not torch.allclose(flat, noisy(tiny_model("llama"), [7, 4, 9], None), rtol=1e-5)


def test_noise_is_off_in_evaluation() -> None:
    keys = [NoiseKey(1, 7), NoiseKey(2, 4)]
    assert torch.equal(noisy(tiny_model("llama").eval(), [7, 4], None), noisy(tiny_model("llama"), [7, 4], None))
    module = TokenLoss(tiny_model("llama"), neftune_alpha=5.0).eval()
    examples = random_examples([7, 4])
    ids = torch.cat([ids for ids, _ in examples])
    targets, weights = targets_of(ids, torch.cat([weights for _, weights in examples]), [7, 4])
    with_keys = module(ids, positions_of([7, 4]), [7, 4], targets, weights, keys)
    assert torch.equal(with_keys, module(ids, positions_of([7, 4]), [7, 4], targets, weights, None))


def test_noise_has_the_papers_scale() -> None:
    noise = example_noise(NoiseKey(7, 50), width=64, alpha=5.0, device="cpu")
    bound = 5.0 / (50 * 64) ** 0.5
    assert noise.abs().max() <= bound
    assert noise.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert torch.equal(noise, example_noise(NoiseKey(7, 50), width=64, alpha=5.0, device="cpu"))
    assert not torch.equal(noise, example_noise(NoiseKey(8, 50), width=64, alpha=5.0, device="cpu"))
