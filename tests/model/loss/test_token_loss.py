"""A flat micro-batch equals every example alone, and both equal transformers' own model, for each architecture."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.model.flat_batches import LENGTHS, MIXTURES, ONE_ROW, assert_same, gradients_of, loss_of
from tests.model.tiny import ARCHITECTURES, MIXING, random_examples, tiny_model

from instil.errors import ModelError
from instil.model.attention.layout import positions_of
from instil.model.loss.neftune import NoiseKey
from instil.model.loss.token_loss import TokenLoss, targets_of


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_flat_equals_alone(name: str) -> None:
    model = tiny_model(name)
    module = TokenLoss(model, router_coefficient=0.1 if name in MIXTURES else None)
    examples = random_examples(LENGTHS)
    flat = loss_of(module, examples)
    flat.backward()
    flat_gradients = gradients_of(model)
    alone = torch.zeros(())
    for example in examples:
        loss = loss_of(module, [example])
        loss.backward()
        alone += loss.detach()
    assert torch.allclose(flat.detach(), alone, rtol=1e-5)
    assert len(flat_gradients) == len(list(model.parameters()))
    assert_same(flat_gradients, gradients_of(model))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_loss_and_gradients_equal_transformers_own(name: str) -> None:
    model = tiny_model(name)
    examples = random_examples(LENGTHS)
    loss = loss_of(TokenLoss(model), examples)
    loss.backward()
    ours = gradients_of(model)
    model.set_attn_implementation("eager")
    total = torch.zeros(())
    for ids, weights in examples:
        logits = model(input_ids=ids[None]).logits[0].float()
        total = total + (F.cross_entropy(logits[:-1], ids[1:], reduction="none") * weights[1:]).sum()
    total.backward()
    assert torch.allclose(loss, total, rtol=1e-5)
    theirs = gradients_of(model)
    assert_same(ours, theirs)


def test_all_ones_equals_transformers_own_loss() -> None:
    model = tiny_model("llama")
    ids = random_examples([12])[0][0]
    weights = torch.ones(12)
    loss = loss_of(TokenLoss(model), [(ids, weights)]) / 11
    model.set_attn_implementation("sdpa")
    assert torch.allclose(loss, model(input_ids=ids[None], labels=ids[None]).loss, rtol=1e-6)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_no_trained_token_gives_zero_and_zero_gradients(name: str) -> None:
    model = tiny_model(name)
    ids = random_examples([6])[0][0]
    loss = loss_of(TokenLoss(model), [(ids, torch.zeros(6))])
    loss.backward()
    assert loss.item() == 0.0
    gradients = gradients_of(model)
    assert len(gradients) == len(list(model.parameters()))
    assert not any(gradient.any() for gradient in gradients.values())


def test_gradient_scale_does_not_change_the_result() -> None:
    model = tiny_model("llama")
    module = TokenLoss(model)
    examples = random_examples([9, 5])
    loss_of(module, examples).backward()
    plain = gradients_of(model)
    module.gradient_scale = 1024.0
    (loss_of(module, examples) * 1024.0).backward()
    assert_same({name: value / 1024.0 for name, value in gradients_of(model).items()}, plain)


def test_gradient_scale_saves_small_gradients_in_half_precision() -> None:
    torch.manual_seed(0)
    model = tiny_model("llama").to(torch.float16)
    examples = [(ids, weights * 1e-9) for ids, weights in random_examples([9])]
    lost, kept = TokenLoss(model), TokenLoss(model)
    kept.gradient_scale = 2.0**16
    loss_of(lost, examples).backward()
    assert not any(value.any() for value in gradients_of(model).values())
    (loss_of(kept, examples) * 2.0**16).backward()
    assert any(value.any() for value in gradients_of(model).values())


def test_evaluation_gives_the_same_loss_without_gradients() -> None:
    model = tiny_model("gemma2")
    examples = random_examples([9, 5])
    trained = loss_of(TokenLoss(model), examples)
    with torch.no_grad():
        evaluated = loss_of(TokenLoss(model.eval(), chunk_bytes=2 * ONE_ROW), examples)
    assert not evaluated.requires_grad
    assert torch.allclose(trained, evaluated, rtol=1e-6)


def test_bf16_stays_near_fp32() -> None:
    examples = random_examples([30, 25])
    losses = [loss_of(TokenLoss(tiny_model("llama").to(kind)), examples) for kind in (torch.float32, torch.bfloat16)]
    assert losses[1].dtype == torch.float32
    assert torch.allclose(losses[0], losses[1], rtol=0.01)


def test_lengths_must_add_up() -> None:
    ids = torch.zeros(5, dtype=torch.long)
    with pytest.raises(ModelError, match="add up to 4"):
        TokenLoss(tiny_model("llama"))(ids, positions_of([5]), [4], ids, torch.ones(5))


@pytest.mark.parametrize("name", [*ARCHITECTURES, *MIXING])
def test_filling_up_changes_neither_loss_nor_gradients(name: str):
    model = tiny_model(name)
    router = 0.1 if name in MIXTURES else None
    examples = random_examples([9] if name in MIXING else [9, 1, 12])
    results = []
    for few_shapes in (False, True):
        loss = loss_of(TokenLoss(model, router_coefficient=router, few_shapes=few_shapes), examples)
        loss.backward()
        results.append((loss.detach(), gradients_of(model)))
    assert torch.allclose(results[0][0], results[1][0], rtol=1e-6)
    assert_same(results[1][1], results[0][1])


def test_filling_up_leaves_the_noise_of_the_examples_alone():
    model = tiny_model("llama")
    examples = random_examples([9, 12])
    lengths = [9, 12]
    ids = torch.cat([ids for ids, _ in examples])
    targets, weights = targets_of(ids, torch.cat([weights for _, weights in examples]), lengths)
    keys = [NoiseKey.of(0, 0, number, length=length) for number, length in enumerate(lengths)]
    batch = (ids, positions_of(lengths), lengths, targets, weights, keys)
    plain = TokenLoss(tiny_model("llama"), neftune_alpha=5.0).train()(*batch)
    filled = TokenLoss(model, neftune_alpha=5.0, few_shapes=True).train()(*batch)
    assert torch.allclose(plain, filled, rtol=1e-6)
