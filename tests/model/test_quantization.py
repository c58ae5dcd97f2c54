from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.model.adapted_models import examples_with_new_tokens
from tests.model.chat_tokens import base_tokenizer, give_chat_tokens
from tests.model.flat_batches import loss_of
from tests.model.tiny import random_examples, tiny_model

from instil.errors import ModelError
from instil.model.adapters.lora import prepare_adapters
from instil.model.adapters.merge import merge_in_place
from instil.model.adapters.saved import open_adapter
from instil.model.attention.switch import set_attention
from instil.model.folder.saving import save_adapter
from instil.model.loading import load_model
from instil.model.loss.token_loss import TokenLoss
from instil.model.probe import probe
from instil.model.quantization import is_quantized
from instil.recipe import AdapterSettings, ModelSettings

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning"),
]


LORA = AdapterSettings(kind="lora", rank=4, alpha=8)


DORA = LORA.model_copy(update={"dora": True})
KINDS_AND_PRECISIONS = pytest.mark.parametrize(
    ("kind", "precision"),
    [
        ("4bit", "bf16"),
        ("8bit", "fp32"),
        pytest.param("4bit", "fp32", marks=pytest.mark.slow),
        pytest.param("8bit", "bf16", marks=pytest.mark.slow),
    ],
)
"""Each kind and each precision among the quick tests, all pairs among the slow ones."""


def quantised(tmp_path: Path, kind: Any, precision: Any = "fp32") -> Any:
    model = tiny_model("llama", hidden_size=64, intermediate_size=128, head_dim=16)
    model.save_pretrained(str(tmp_path / "base"))
    settings = ModelSettings(name=str(tmp_path / "base"), quantize=kind)
    return load_model(settings, precision=precision, frozen=True)


@pytest.mark.slow
@KINDS_AND_PRECISIONS
def test_adapters_train_on_a_quantised_base(kind: str, precision: str, tmp_path: Path) -> None:
    model = quantised(tmp_path, kind, precision)
    assert is_quantized(model)
    rows = give_chat_tokens(model, base_tokenizer())
    model = prepare_adapters(model, LORA, trained_ids=rows.trained_ids)
    assert not probe(model).one_by_one
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    before = {name: value.detach().clone() for name, value in trained.items()}
    module, losses = TokenLoss(model), []
    optimizer = torch.optim.AdamW(trained.values(), lr=0.01)
    for _ in range(20):
        loss = loss_of(module, examples_with_new_tokens())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(not torch.equal(value, before[name]) for name, value in trained.items())


def adapter_gradients(model: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss_of(TokenLoss(model).train(), random_examples([9, 6])).backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def draw_a_sample(model: Any) -> None:
    model.eval()
    set_attention(model, "generation")
    with torch.no_grad():
        model.generate(input_ids=torch.tensor([[5, 6, 7]]), max_new_tokens=3, do_sample=False)
    set_attention(model, "training")
    model.train()


def with_moved_adapters(model: Any, settings: AdapterSettings = LORA) -> Any:
    model = prepare_adapters(model, settings)
    generator = torch.Generator().manual_seed(2)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            value.data = torch.randn(value.shape, generator=generator).to(value.dtype) * 0.1
    return model


@pytest.mark.slow
@KINDS_AND_PRECISIONS
def test_probe_and_samples_do_not_change_the_gradients_after_them(kind: str, precision: str, tmp_path: Path) -> None:
    model = with_moved_adapters(quantised(tmp_path, kind, precision))
    before = adapter_gradients(model)
    probe(model)
    draw_a_sample(model)
    after = adapter_gradients(model)
    assert len(before) == len(after) == 28
    for name, gradient in before.items():
        assert torch.equal(gradient, after[name]), name


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        pytest.param("4bit", LORA, id="4bit-lora"),
        pytest.param("8bit", DORA, id="8bit-dora"),
        pytest.param("4bit", DORA, id="4bit-dora", marks=pytest.mark.slow),
        pytest.param("8bit", LORA, id="8bit-lora", marks=pytest.mark.slow),
    ],
)
def test_gradients_on_a_quantised_base_are_those_on_its_unpacked_weights(
    kind: str, settings: AdapterSettings, tmp_path: Path
) -> None:
    model = quantised(tmp_path, kind)
    whole = load_model(ModelSettings(name=str(tmp_path / "base")), precision="fp32")
    for name, module in whole.named_modules():
        packed = model.get_submodule(name)
        if type(packed) is not type(module) and isinstance(module, torch.nn.Linear):
            with torch.no_grad():
                module.weight.copy_(packed(torch.eye(module.in_features)).T)
    gradients = adapter_gradients(with_moved_adapters(model, settings))
    expected = adapter_gradients(with_moved_adapters(whole, settings))
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, expected[name], rtol=1e-4, atol=1e-4 * expected[name].abs().max()), name


@pytest.mark.parametrize("kind", ["4bit", "8bit"])
def test_the_evaluation_loss_on_a_quantised_base_does_not_depend_on_the_cut(kind: str, tmp_path: Path) -> None:
    model = quantised(tmp_path, kind)
    for name, value in model.named_parameters():
        if "norm" in name:
            value.data.mul_(5.0)  # some inputs are then past bitsandbytes' threshold for outlier columns
    module = TokenLoss(model).eval()
    examples = random_examples([9, 6, 12])
    with torch.no_grad():
        alone = sum(loss_of(module, [example]) for example in examples)
        assert torch.allclose(loss_of(module, examples), alone, rtol=1e-5)


def test_a_narrow_layer_answers_in_4_bits(tmp_path: Path) -> None:
    model = tiny_model("llama", hidden_size=48, intermediate_size=80, head_dim=12)
    model.save_pretrained(str(tmp_path))
    model = load_model(ModelSettings(name=str(tmp_path), quantize="4bit"), precision="bf16", purpose="generation")
    with torch.no_grad():
        assert model(input_ids=torch.tensor([[5, 6, 7]])).logits.isfinite().all()


def test_a_quantised_base_is_never_merged_into(tmp_path: Path) -> None:
    model = prepare_adapters(quantised(tmp_path, "4bit"), LORA)
    with pytest.raises(ModelError, match="never merged"):
        merge_in_place(model)
    save_adapter(model, tmp_path / "adapter", base=str(tmp_path / "base"))
    whole = load_model(ModelSettings(name=str(tmp_path / "base")), precision="fp32")
    merged = merge_in_place(open_adapter(whole, tmp_path / "adapter", trains=False))
    assert merged.lm_head.weight.dtype == torch.float32


def test_full_fine_tuning_of_quantised_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Set adapter\.kind: lora"):
        prepare_adapters(quantised(tmp_path, "4bit"), AdapterSettings())


@pytest.mark.slow
@pytest.mark.long
def test_importing_bitsandbytes_reaches_for_no_network() -> None:
    code = (
        "import socket, sys, types\n"
        "def refuse(*a, **k): raise SystemExit('network asked for')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "fake = types.ModuleType('kernels'); fake.get_kernel = refuse; sys.modules['kernels'] = fake\n"
        "import torch\n"
        "from instil.model.quantization import quantization_config\n"
        "quantization_config('4bit', torch.float32)\n"
        "assert sys.modules['kernels'] is fake and 'bitsandbytes' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
