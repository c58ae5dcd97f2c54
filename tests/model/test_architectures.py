"""A flat micro-batch equals every example alone, and both equal transformers' own model, for each architecture."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.model.tiny import ARCHITECTURES, random_examples, tiny_model

from instil.model.attention.layout import positions_of
from instil.model.gradient_checkpointing import set_gradient_checkpointing
from instil.model.loss.token_loss import TokenLoss, targets_of

LENGTHS = [7, 1, 12, 3]
MIXTURES = ("qwen3_moe", "mixtral", "gpt_oss")


def loss_of(module: TokenLoss, examples: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    lengths = [len(ids) for ids, _ in examples]
    ids = torch.cat([ids for ids, _ in examples])
    targets, weights = targets_of(ids, torch.cat([weights for _, weights in examples]), lengths)
    return module(ids, positions_of(lengths), lengths, targets, weights)


def gradients_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    found = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    return found


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert first
    for name, value in first.items():
        scale = max(second[name].abs().max().item(), 1e-3)
        assert (value - second[name]).abs().max().item() <= 1e-5 * scale, name


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
