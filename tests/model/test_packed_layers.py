"""Layers with plain packed weights compute what bitsandbytes' layers compute."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from tests.training.combinations import make_base

from instil.model.adapters.lora import prepare_adapters
from instil.model.attention.switch import set_attention
from instil.model.loading import load_model
from instil.model.packed_layers import SCALE_BYTES, use_plain_packed_weights
from instil.recipe import AdapterSettings, ModelSettings

pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes: 6 cases left out"),
]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("wide"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("quantize", ["4bit", "8bit"])
def test_logits_and_gradients_have_the_same_bits(base: Path, quantize: str, precision: str):
    settings = ModelSettings(name=str(base), quantize=quantize)  # type: ignore[arg-type]
    results = []
    for plain in (False, True):
        model = load_model(settings, precision=precision, frozen=True)  # type: ignore[arg-type]
        model = prepare_adapters(model, AdapterSettings(kind="lora", rank=4), seed=1)
        set_attention(model, "generation")
        if plain:
            assert use_plain_packed_weights(model, CPU) == 14
            assert not [value for value in model.parameters() if type(value) is not torch.nn.Parameter]
        for name, value in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.constant_(value, 0.01)
        logits = model(input_ids=torch.arange(12)[None]).logits
        logits.float().square().sum().backward()
        gradients = {name: value.grad for name, value in model.named_parameters() if value.requires_grad}
        results.append((logits, gradients))
    (logits, gradients), (found, its) = results
    assert torch.equal(found, logits)
    assert len(gradients) == 28
    assert all(torch.equal(its[name], gradients[name]) for name in gradients)


@pytest.mark.parametrize("quantize", ["4bit", "8bit"])
def test_scales_are_as_large_as_the_plan_counts_them(quantize: str):
    import bitsandbytes

    layer: torch.nn.Module = (
        bitsandbytes.nn.Linear4bit(1024, 512, bias=False, quant_type="nf4")
        if quantize == "4bit"
        else bitsandbytes.nn.Linear8bitLt(1024, 512, bias=False, has_fp16_weights=False)
    )
    layer = layer.to("cpu")
    assert use_plain_packed_weights(layer, CPU) == 1
    scales = [value for name, value in layer.state_dict().items() if name != "weight" and "quant_map" not in name]
    # One small tensor of 4 bits is bitsandbytes' description of the others.
    size = sum(value.numel() * value.element_size() for value in scales if value.numel() < 200_000)
    assert size / (1024 * 512) < SCALE_BYTES[quantize] + 0.001


def test_a_model_without_quantised_layers_stays_as_it_is():
    assert use_plain_packed_weights(torch.nn.Linear(4, 4), CPU) == 0
