"""Norms with few passes give what transformers' own give, for the architectures that have them; anything else is left alone."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.model.tiny import ARCHITECTURES, MIXING, tiny_model
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from instil.model.speedups.norms import speed_up_norms

WITHOUT = ("gpt2", "cohere", "cohere2", "bloom")


@pytest.mark.parametrize("name", sorted({**ARCHITECTURES, **MIXING}))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_a_replaced_norm_gives_the_same_values_and_gradients(name: str, dtype: torch.dtype) -> None:
    model = tiny_model(name).to(dtype)
    own = copy.deepcopy(model)
    count = speed_up_norms(model)
    assert (count == 0) == (name in WITHOUT)
    twins = dict(own.named_modules())
    generator = torch.Generator().manual_seed(1)
    for path, norm in model.named_modules():
        if "forward" not in vars(norm):
            continue
        weight = torch.randn(norm.weight.shape, generator=generator).to(dtype)
        states = torch.randn(2, 5, 3, weight.shape[0], generator=generator).mul(4).to(dtype)
        results = []
        for module in (norm, twins[path]):
            module.weight = nn.Parameter(weight.clone())
            given = states.transpose(1, 2).clone().transpose(1, 2).requires_grad_()
            output = module(given)
            (output.float() * torch.linspace(-1, 1, output.numel()).view(output.shape)).sum().backward()
            results.append((output, given.grad, module.weight.grad))
        tolerance = 1e-5 if dtype == torch.float32 else 2e-2
        for ours, theirs in zip(*results, strict=True):
            assert ours.dtype == theirs.dtype
            assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max(), path


class Shifted(nn.Module):
    """Looks like a norm and adds one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))
        self.variance_epsilon = 1e-6

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return 1 + self.weight * states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


@pytest.mark.parametrize(
    "other", [Shifted(), nn.LayerNorm(8), nn.LayerNorm(8, bias=False), nn.Linear(8, 8, bias=False)]
)
def test_what_computes_something_else_keeps_its_own_code(other: nn.Module) -> None:
    assert speed_up_norms(nn.Sequential(other)) == 0
    assert "forward" not in vars(other)


def test_a_frozen_weight_gets_no_gradient_and_states_still_do() -> None:
    norm = nn.RMSNorm(8, eps=1e-6).requires_grad_(False)
    assert speed_up_norms(nn.Sequential(norm)) == 1
    states = torch.randn(4, 8, requires_grad=True)
    norm(states)[:, 0].sum().backward()
    assert norm.weight.grad is None
    assert states.grad is not None


def test_a_weight_of_another_type_than_the_states_goes_through_its_own_code() -> None:
    norm = LlamaRMSNorm(8)
    own = copy.deepcopy(norm)
    assert speed_up_norms(nn.Sequential(norm)) == 1
    states = torch.randn(4, 8, dtype=torch.bfloat16)
    assert norm(states).dtype == torch.float32
    assert torch.equal(norm(states), own(states))


def test_a_copy_of_a_replaced_norm_uses_its_own_weight() -> None:
    norm = nn.RMSNorm(8, eps=1e-6)
    speed_up_norms(nn.Sequential(norm))
    twin = copy.deepcopy(norm)
    with torch.no_grad():
        twin.weight.fill_(2.0)
    states = torch.randn(4, 8)
    assert torch.equal(twin(states), 2 * norm(states))
