from __future__ import annotations

import pytest
import torch
from tests.model.chat_tokens import base_tokenizer, give_chat_tokens
from tests.model.tiny import VOCABULARY, tiny_model

from instil.model.chat_tokens import add_chat_tokens
from instil.model.new_tokens import fit_embeddings, untrained_ids


@pytest.mark.parametrize("tied", [True, False])
def test_new_rows_are_like_the_old_ones_and_tied_heads_stay_tied(tied: bool) -> None:
    model = tiny_model("llama", tie_word_embeddings=tied)
    before = model.get_input_embeddings().weight.detach().clone()
    head_before = model.get_output_embeddings().weight.detach().clone()
    change = give_chat_tokens(model, base_tokenizer())
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert change.new_ids == (VOCABULARY, VOCABULARY + 1)
    assert (change.rows_before, change.rows_after, embedding.shape[0]) == (97, 104, 104)
    assert (head is embedding) == tied
    assert torch.equal(embedding[:97], before)
    assert torch.equal(head[:97], head_before)
    for table, old in ((embedding, before), (head, head_before)):
        distance = (table[97:99] - old.mean(0)).norm(dim=1)
        usual = (old - old.mean(0)).norm(dim=1)
        assert ((distance > usual.min() * 0.5) & (distance < usual.max() * 2)).all()
        assert not torch.allclose(table[97], table[98])
    assert tied or not torch.allclose(embedding[97], head[97])


def test_new_rows_have_the_mean_and_spread_of_the_old() -> None:
    from instil.model.new_tokens import _draw_rows

    generator = torch.Generator().manual_seed(1)
    spread = torch.randn(3, 3, generator=generator)
    table = torch.cat([torch.randn(500, 3, generator=generator) @ spread + 5.0, torch.zeros(4000, 3)])
    _draw_rows(table, range(500, 4500), num_known=500, seed=0)
    assert torch.allclose(table[500:].mean(0), table[:500].mean(0), atol=0.15)
    assert torch.allclose(table[500:].T.cov(), table[:500].T.cov(), rtol=0.1, atol=0.1)


def test_same_seed_draws_the_same_rows() -> None:
    rows = []
    for seed in (0, 0, 1):
        model = tiny_model("llama")
        give_chat_tokens(model, base_tokenizer(), seed=seed)
        rows.append(model.get_input_embeddings().weight[97].detach().clone())
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])


def test_stop_token_is_in_config_and_generation_config() -> None:
    model, tokenizer = tiny_model("llama"), base_tokenizer()
    give_chat_tokens(model, tokenizer)
    assert model.config.eos_token_id == VOCABULARY + 1
    assert model.generation_config.eos_token_id == [VOCABULARY + 1, VOCABULARY - 1]
    assert model.generation_config.pad_token_id == model.config.pad_token_id == tokenizer.pad_token_id
    assert tokenizer.pad_token_id != VOCABULARY + 1


@pytest.mark.parametrize("kind", ["zero", "tiny", "mean", "twins"])
@pytest.mark.parametrize("tied", [True, False])
def test_rows_that_look_untrained_are_found_and_drawn_anew(kind: str, tied: bool) -> None:
    model = tiny_model("llama", tie_word_embeddings=tied)
    table = model.get_output_embeddings().weight
    with torch.no_grad():
        values = {"zero": torch.zeros(32), "tiny": table[9] * 1e-3, "mean": table.mean(0), "twins": table[96]}
        table[95] = values[kind]
    assert untrained_ids(model, [10, 11, 95]) == (95,)
    tokenizer = base_tokenizer(95, "<|im_start|>", "<|im_end|>")
    change = add_chat_tokens(tokenizer, ["<|im_start|>"], stop_token="<|im_end|>")
    before = model.get_input_embeddings().weight.detach().clone()
    rows = fit_embeddings(model, tokenizer, change, stop_ids=(96,))
    assert change.added == ()
    assert set(rows.untrained_ids) == ({95, 96} if kind == "twins" else {95})
    assert rows.trained_ids == rows.untrained_ids
    assert table[95].norm() > 0.3 * table[:95].norm(dim=1).median()
    after = model.get_input_embeddings().weight
    assert tied or torch.equal(after, before), "only the head's row looked untrained"


def test_trained_rows_are_left_alone() -> None:
    model = tiny_model("qwen3")
    assert untrained_ids(model, range(VOCABULARY)) == ()
