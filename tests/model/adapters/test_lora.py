from __future__ import annotations

import pytest
import torch
from tests.model.adapted_models import LORA, adapted, examples_with_new_tokens, logits_of, train
from tests.model.tiny import VOCABULARY, tiny_model

from instil.errors import ModelError
from instil.model.adapters.lora import prepare_adapters
from instil.model.underlying import underlying
from instil.recipe import AdapterSettings


@pytest.mark.parametrize("tied", [True, False])
def test_exactly_the_new_rows_of_embedding_and_head_train(tied: bool) -> None:
    model, ids = adapted(tied=tied)
    inner = underlying(model)
    embedding, head = inner.get_input_embeddings(), inner.get_output_embeddings()
    before = embedding.weight.detach().clone(), head.weight.detach().clone()
    train(model)
    for table, old in zip((embedding.weight, head.weight), before, strict=True):
        moved = (table - old).abs().amax(1).nonzero().squeeze(1).tolist()
        assert moved == list(ids)
    assert torch.equal(embedding.weight, head.weight) == tied


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_a_tuned_model_emits_the_new_stop_token(tied: bool) -> None:
    model, _ = adapted(tied=tied)
    train(model, steps=100)
    for ids, _ in examples_with_new_tokens():
        assert logits_of(model, ids[:-1])[-1].argmax() == VOCABULARY + 1


def test_same_seed_makes_the_same_adapter() -> None:
    rows = []
    for seed in (0, 0, 1):
        model = prepare_adapters(tiny_model("llama"), LORA, seed=seed)
        rows.append(next(value for name, value in model.named_parameters() if "lora_A" in name).detach().clone())
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])


def test_head_as_target_with_new_tokens_is_refused() -> None:
    with pytest.raises(ModelError, match="lm_head is a target"):
        adapted(settings=LORA.model_copy(update={"targets": ["q_proj", "lm_head"]}))


def test_full_fine_tuning_of_an_adapter_merges_it() -> None:
    model = prepare_adapters(tiny_model("llama"), LORA)
    merged = prepare_adapters(model, AdapterSettings())
    assert not hasattr(merged, "peft_config")
    assert all(value.requires_grad for value in merged.parameters())
