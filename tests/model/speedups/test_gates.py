"""Slim gates give what transformers' own layers give, to the bit, and keep less; anything else is left alone."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.model.tiny import ARCHITECTURES, MIXING, tiny_model
from torch import nn
from transformers.models.llama.modeling_llama import LlamaMLP

from instil.model.adapters.lora import prepare_adapters
from instil.model.speedups.gates import slim_gates
from instil.recipe import AdapterSettings

WITHOUT = ("bloom", "gpt2", "gpt_oss", "lfm2", "mamba", "mixtral", "qwen3_moe")


@pytest.mark.parametrize("name", sorted({**ARCHITECTURES, **MIXING}))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_a_slim_gate_gives_the_same_values_and_gradients(name: str, dtype: torch.dtype) -> None:
    model = tiny_model(name).to(dtype)
    own = copy.deepcopy(model)
    assert (slim_gates(model) == 0) == (name in WITHOUT)
    twins = dict(own.named_modules())
    states = torch.randn(1, 7, model.config.get_text_config().hidden_size, generator=torch.Generator().manual_seed(1))
    for path, layer in model.named_modules():
        if "forward" not in vars(layer):
            continue
        results = []
        for module in (layer, twins[path]):
            given = states.to(dtype).requires_grad_()
            output = module(given)
            (output.float() * torch.linspace(-1, 1, output.numel()).view(output.shape)).sum().backward()
            results.append((output, given.grad, *(weight.grad for weight in module.parameters())))
        for ours, theirs in zip(*results, strict=True):
            assert torch.equal(ours, theirs), path


def llama_layer(activation: str = "silu") -> LlamaMLP:
    config = tiny_model("llama").config
    config.hidden_act = activation
    return LlamaMLP(config)


def kept_bytes(layer: nn.Module) -> int:
    """Bytes of what a layer keeps for its backward pass, weights left out."""
    weights = {weight.untyped_storage().data_ptr() for weight in layer.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = layer(torch.randn(1, 16, layer.gate_proj.in_features, requires_grad=True))
    assert output.requires_grad
    return sum(kept.values())


def test_the_activation_is_not_kept() -> None:
    layer = llama_layer()
    before, one = kept_bytes(layer), 16 * layer.gate_proj.out_features * 4
    slim_gates(nn.Sequential(layer))
    assert kept_bytes(layer) == before - one


@pytest.mark.parametrize(("activation", "known"), [("gelu", True), ("gelu_pytorch_tanh", True), ("relu", False)])
def test_an_activation_that_is_not_known_keeps_its_own_code(activation: str, known: bool) -> None:
    layer = llama_layer(activation)
    assert slim_gates(nn.Sequential(layer)) == known
    assert ("forward" in vars(layer)) == known


class Clamped(LlamaMLP):
    """Looks like the others and cuts the gate off."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        down: torch.Tensor = self.down_proj(self.act_fn(self.gate_proj(states).clamp(max=1.0)) * self.up_proj(states))
        return down


def test_what_computes_something_else_keeps_its_own_code() -> None:
    layer = Clamped(tiny_model("llama").config)
    assert slim_gates(nn.Sequential(layer)) == 0
    assert "forward" not in vars(layer)


def test_adapters_inside_a_layer_still_train() -> None:
    model = tiny_model("llama")
    assert slim_gates(model) == model.config.num_hidden_layers
    tuned = prepare_adapters(model, AdapterSettings(kind="lora", rank=2))
    layer = model.model.layers[0].mlp
    layer(torch.randn(1, 5, model.config.hidden_size)).sum().backward()
    second = [weight for name, weight in tuned.named_parameters() if "layers.0.mlp" in name and "lora_B" in name]
    assert len(second) == 3
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in second)
