from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.model.test_architectures import loss_of
from tests.model.test_new_tokens import base_tokenizer, give_chat_tokens
from tests.model.tiny import VOCABULARY, random_examples, tiny_model

from instil.errors import ModelError
from instil.model.adapters.lora import prepare_adapters
from instil.model.adapters.merge import merge_in_place
from instil.model.adapters.saved import open_adapter
from instil.model.adapters.targets import find_targets
from instil.model.attention.switch import set_attention
from instil.model.folder.saving import save_adapter
from instil.model.freezing import freeze
from instil.model.library_noise import quiet_peft
from instil.model.loss.token_loss import TokenLoss
from instil.model.parts import underlying
from instil.recipe import AdapterSettings

LORA = AdapterSettings(kind="lora", rank=4, alpha=8)


def examples_with_new_tokens() -> list[tuple[torch.Tensor, torch.Tensor]]:
    examples = random_examples([9, 6])
    for ids, weights in examples:
        ids[1], ids[3], ids[-1] = VOCABULARY + 1, VOCABULARY, VOCABULARY + 1
        weights[-1] = 1.0
    return examples


def adapted(
    name: str = "llama", *, tied: bool = False, settings: AdapterSettings = LORA
) -> tuple[Any, tuple[int, ...]]:
    model = tiny_model(name, tie_word_embeddings=tied)
    rows = give_chat_tokens(model, base_tokenizer())
    return prepare_adapters(model, settings, trained_ids=rows.trained_ids), rows.trained_ids


def train(model: Any, *, steps: int = 3, lr: float = 0.02) -> None:
    module = TokenLoss(model)
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.0)
    for _ in range(steps):
        loss_of(module, examples_with_new_tokens()).backward()
        optimizer.step()
        optimizer.zero_grad()


def logits_of(model: Any, ids: torch.Tensor) -> torch.Tensor:
    set_attention(model, "generation")
    model.eval()
    with torch.no_grad():
        return model(input_ids=ids[None]).logits[0]


@pytest.mark.parametrize(
    ("name", "left_out"), [("llama4_text", {"router"}), ("mamba", {"dt_proj", "out_proj", "x_proj"}), ("llama", set())]
)
def test_all_linear_leaves_out_what_an_adapter_would_not_count_on(name: str, left_out: set[str]) -> None:
    excluded = find_targets(tiny_model(name), "all-linear").excluded
    assert {layer.rsplit(".", 1)[-1] for layer in excluded} == left_out
    model = prepare_adapters(tiny_model(name), LORA)
    loss_of(TokenLoss(model), random_examples([9])).backward()
    second = [value for key, value in model.named_parameters() if "lora_B" in key]
    assert second
    assert all(value.grad is not None and value.grad.any() for value in second)


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


@pytest.mark.parametrize("tied", [True, False])
def test_row_arithmetic_equals_pefts_own(tied: bool) -> None:
    from peft.tuners.trainable_tokens.layer import TrainableTokensLayer

    from instil.model.adapters.token_rows import layer_classes

    _, RowsOverTable = layer_classes()
    results = []
    for kind in (RowsOverTable, TrainableTokensLayer):
        model, _ = adapted("gemma3_text" if tied else "llama", tied=tied)
        layers = [module for module in model.modules() if type(module) is RowsOverTable]
        assert len(layers) == 2
        for layer in layers:
            layer.__class__ = kind
        loss = loss_of(TokenLoss(model), examples_with_new_tokens())
        loss.backward()
        results.append((loss, [value.grad for value in model.parameters() if value.grad is not None]))
    (first, first_gradients), (second, second_gradients) = results
    assert torch.allclose(first, second, rtol=1e-6)
    assert len(first_gradients) == len(second_gradients) > 4
    for one, other in zip(first_gradients, second_gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_whether_an_adapter_fits_is_found_out_without_weights(tied: bool, tmp_path: Path) -> None:
    model, _ = adapted(tied=tied)
    save_adapter(model, tmp_path, base="/no/such/base")
    opened = open_adapter(tiny_model("llama", tie_word_embeddings=tied).to("meta"), tmp_path, trains=False)
    assert all(value.is_meta for value in opened.parameters())
    with pytest.raises(ModelError, match="does not fit its base"):
        open_adapter(tiny_model("llama", num_hidden_layers=1).to("meta"), tmp_path, trains=False)


@pytest.mark.parametrize("tied", [True, False])
def test_plain_peft_loads_what_is_saved(tied: bool, tmp_path: Path) -> None:
    from peft import PeftModel

    model, _ = adapted(tied=tied)
    base = tiny_model("llama", tie_word_embeddings=tied)
    train(model)
    save_adapter(model, tmp_path, base="/no/such/base")
    ids = examples_with_new_tokens()[0][0]
    expected = logits_of(model, ids)
    ours = logits_of(open_adapter(copy.deepcopy(base), tmp_path, trains=False), ids)
    base.resize_token_embeddings(104, mean_resizing=False)
    with quiet_peft():
        plain = PeftModel.from_pretrained(base, str(tmp_path))
    theirs = logits_of(plain, ids)
    real = slice(0, VOCABULARY + 2)  # rows beyond the tokens are drawn anew
    assert torch.allclose(ours[:, real], expected[:, real], atol=1e-5)
    assert torch.allclose(theirs[:, real], expected[:, real], atol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "changes", [{}, {"rank_stabilized": True}, {"dora": True}, {"targets": ["q_proj", "down_proj"]}]
)
def test_merging_changes_nothing(tied: bool, changes: dict[str, Any]) -> None:
    model, _ = adapted(tied=tied, settings=LORA.model_copy(update=changes))
    train(model)
    ids = examples_with_new_tokens()[0][0]
    expected = logits_of(model, ids)
    merged = merge_in_place(model)
    assert not hasattr(merged, "peft_config")
    assert torch.allclose(logits_of(merged, ids), expected, atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_a_tuned_model_emits_the_new_stop_token(tied: bool) -> None:
    model, _ = adapted(tied=tied)
    train(model, steps=100)
    for ids, _ in examples_with_new_tokens():
        assert logits_of(model, ids[:-1])[-1].argmax() == VOCABULARY + 1


def test_an_adapter_goes_on_where_it_was(tmp_path: Path) -> None:
    model, ids = adapted()
    train(model)
    save_adapter(model, tmp_path, base="/no/such/base")
    base = tiny_model("llama")
    give_chat_tokens(base, base_tokenizer())
    again = prepare_adapters(base, AdapterSettings(kind="lora", resume_from=str(tmp_path)), trained_ids=ids)
    first = {name: value for name, value in model.named_parameters() if value.requires_grad}
    second = {name: value for name, value in again.named_parameters() if value.requires_grad}
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_same_seed_makes_the_same_adapter() -> None:
    rows = []
    for seed in (0, 0, 1):
        model = prepare_adapters(tiny_model("llama"), LORA, seed=seed)
        rows.append(next(value for name, value in model.named_parameters() if "lora_A" in name).detach().clone())
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])


def test_unknown_target_is_refused_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="did you mean 'q_proj'"):
        prepare_adapters(tiny_model("llama"), AdapterSettings(kind="lora", targets=["q_prj"]))


def test_head_as_target_with_new_tokens_is_refused() -> None:
    with pytest.raises(ModelError, match="lm_head is a target"):
        adapted(settings=LORA.model_copy(update={"targets": ["q_proj", "lm_head"]}))


def test_adapter_of_another_size_is_refused(tmp_path: Path) -> None:
    model = prepare_adapters(tiny_model("llama"), LORA)
    save_adapter(model, tmp_path, base="/no/such/base")
    with pytest.raises(ModelError, match="does not fit its base"):
        open_adapter(tiny_model("llama", hidden_size=48), tmp_path, trains=False)


def test_half_written_adapter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="without adapter_model"):
        open_adapter(tiny_model("llama"), tmp_path, trains=False)


def test_full_fine_tuning_of_an_adapter_merges_it() -> None:
    model = prepare_adapters(tiny_model("llama"), LORA)
    merged = prepare_adapters(model, AdapterSettings())
    assert not hasattr(merged, "peft_config")
    assert all(value.requires_grad for value in merged.parameters())


def test_freezing_by_pattern() -> None:
    model = tiny_model("llama")
    assert freeze(model, ["embed_tokens.*", "model.layers.0.*"]) == 10
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert "model.embed_tokens.weight" in frozen
    assert "model.layers.1.mlp.up_proj.weight" not in frozen
    with pytest.raises(ModelError, match="matches no parameter"):
        freeze(model, ["layer.0"])
    with pytest.raises(ModelError, match="nothing is left"):
        freeze(model, ["*"])


def test_freezing_a_tied_head_names_the_embedding_that_it_is() -> None:
    model = tiny_model("llama")
    model.config.tie_word_embeddings = True
    model.tie_weights()
    said = "'lm_head.*' names lm_head.weight, which is model.embed_tokens.weight by another name"
    with pytest.raises(ModelError, match=re.escape(said)):
        freeze(model, ["lm_head.*"])
    assert freeze(model, ["embed_tokens.*"]) == 1
