from __future__ import annotations

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
