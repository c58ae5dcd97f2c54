from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.model.flat_batches import assert_same, gradients_of, loss_of
from tests.model.tiny import ARCHITECTURES, MIXING, random_examples, tiny_model

from instil.errors import ModelError
from instil.model.adapters.lora import prepare_adapters
from instil.model.attention.flat import ATTENTION_NAME
from instil.model.loss.token_loss import TokenLoss
from instil.model.probe import probe
from instil.recipe import AdapterSettings


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_models_are_laid_flat(name: str, dtype: torch.dtype) -> None:
    found = probe(tiny_model(name).to(dtype))
    assert not found.one_by_one
    assert "end to end" in found.words


@pytest.mark.parametrize("name", MIXING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_that_mix_examples_go_one_by_one(name: str, dtype: torch.dtype) -> None:
    found = probe(tiny_model(name).to(dtype))
    assert found.one_by_one
    assert found.moved > 1e-3
    assert "one example" in found.words


@pytest.mark.parametrize("name", MIXING)
def test_one_by_one_equals_transformers_own(name: str) -> None:
    model = tiny_model(name)
    examples = random_examples([7, 1, 12])
    total = torch.zeros(())
    for example in examples:
        loss = loss_of(TokenLoss(model), [example])
        loss.backward()
        total += loss.detach()
    ours = gradients_of(model)
    plain = tiny_model(name, attention="eager")
    reference = torch.zeros(())
    for ids, weights in examples:
        logits = plain(input_ids=ids[None]).logits[0].float()
        reference = (
            reference + (torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none") * weights[1:]).sum()
        )
    reference.backward()
    assert torch.allclose(total, reference.detach(), rtol=1e-5)
    assert_same(ours, gradients_of(plain))


def test_a_model_that_looks_ahead_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("bloom")
    model.config._attn_implementation = (
        "instil"  # transformers makes no mask for it, and Bloom's own attention asks nobody
    )
    monkeypatch.setattr("instil.model.probe.set_attention", lambda *_: None)
    with pytest.raises(ModelError, match=r"a token sees the tokens after it .* Expected a causal model"):
        probe(model)


def test_adapters_are_probed_too() -> None:
    model = prepare_adapters(tiny_model("llama"), AdapterSettings(kind="lora", rank=4, dropout=0.5))
    assert not probe(model).one_by_one
    assert model.training
    assert model.get_base_model().config._attn_implementation == ATTENTION_NAME


def test_unknown_logit_scale_is_refused() -> None:
    model = tiny_model("granite")
    before = model.forward

    def scaled(*args: object, **keywords: object) -> object:
        outputs = before(*args, **keywords)
        outputs.logits = outputs.logits * 3.0
        return outputs

    model.forward = scaled
    with pytest.raises(ModelError, match="refused rather than trained wrongly"):
        probe(model)


def test_a_mask_that_is_a_table_has_room_for_one_example() -> None:
    sizes = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]}
    model = tiny_model("gpt_neo", attention="eager", settings=sizes, vocab_size=97, max_position_embeddings=64)
    found = probe(model)
    assert found.one_by_one
    assert "table" in found.words


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_of_attention_models_can_be_divided(name: str, dtype: torch.dtype) -> None:
    assert not probe(tiny_model(name).to(dtype), processes=4).one_by_one


@pytest.mark.parametrize("name", MIXING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_states_that_cross_tokens_are_refused_where_processes_share_them(name: str, dtype: torch.dtype) -> None:
    model = tiny_model(name).to(dtype)
    with pytest.raises(ModelError, match=rf"^parallel\.sequence: 2, but {type(model).__name__} .*mixes examples"):
        probe(model, processes=2)


def test_a_model_that_crosses_tokens_inside_an_example_alone_is_refused_too() -> None:
    """Some architectures keep examples apart by themselves, and carry states through each of them."""
    model = tiny_model("llama")
    layer = model.model.layers[0].mlp

    def carry(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        shifted = output.roll(1, dims=1)
        positions = current["positions"]
        return output + torch.where((positions > 0)[..., None], shifted, torch.zeros_like(shifted))

    current: dict[str, torch.Tensor] = {}
    model.model.register_forward_pre_hook(
        lambda module, args, keywords: current.update(positions=_positions_in(keywords)), with_kwargs=True
    )
    layer.register_forward_hook(carry)
    assert not probe(model).one_by_one
    with pytest.raises(ModelError, match="its states cross tokens outside attention"):
        probe(model, processes=2)


def _positions_in(keywords: dict[str, Any]) -> torch.Tensor:
    positions = keywords.get("position_ids")
    return torch.arange(keywords["input_ids"].shape[1])[None] if positions is None else positions


def test_a_model_that_counts_positions_by_itself_is_refused() -> None:
    model = tiny_model("gpt2")
    table = model.transformer.wpe
    table.register_forward_hook(lambda module, inputs, output: table.weight[: output.shape[-2]] + output - output)
    with pytest.raises(ModelError, match=r"mixes examples|a part of an example's tokens in another way"):
        probe(model, processes=2)
