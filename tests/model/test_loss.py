from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.model.test_architectures import assert_same, gradients_of, loss_of
from tests.model.tiny import VOCABULARY, random_examples, tiny_model

from instil.errors import ModelError
from instil.model.attention.layout import positions_of
from instil.model.loss.neftune import NoiseKey, example_noise
from instil.model.loss.token_loss import TokenLoss, targets_of

ONE_ROW = 4 * VOCABULARY


def test_all_ones_equals_transformers_own_loss() -> None:
    model = tiny_model("llama")
    ids = random_examples([12])[0][0]
    weights = torch.ones(12)
    loss = loss_of(TokenLoss(model), [(ids, weights)]) / 11
    model.set_attn_implementation("sdpa")
    assert torch.allclose(loss, model(input_ids=ids[None], labels=ids[None]).loss, rtol=1e-6)


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


def test_lengths_must_add_up() -> None:
    ids = torch.zeros(5, dtype=torch.long)
    with pytest.raises(ModelError, match="add up to 4"):
        TokenLoss(tiny_model("llama"))(ids, positions_of([5]), [4], ids, torch.ones(5))


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
