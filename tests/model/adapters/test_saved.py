from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from tests.model.adapted_models import LORA, adapted, examples_with_new_tokens, logits_of, train
from tests.model.chat_tokens import base_tokenizer, give_chat_tokens
from tests.model.tiny import VOCABULARY, tiny_model

from instil.errors import ModelError
from instil.model.adapters.lora import prepare_adapters
from instil.model.adapters.saved import open_adapter
from instil.model.folder.saving import save_adapter
from instil.model.library_noise import quiet_peft
from instil.recipe import AdapterSettings


@pytest.mark.parametrize("tied", [True, False])
def test_whether_an_adapter_fits_is_found_out_without_weights(tied: bool, tmp_path: Path) -> None:
    model, _ = adapted(tied=tied)
    save_adapter(model, tmp_path, base="/no/such/base")
    opened = open_adapter(tiny_model("llama", tie_word_embeddings=tied).to("meta"), tmp_path, trains=False)
    assert all(value.is_meta for value in opened.parameters())
    with pytest.raises(ModelError, match="does not fit its base"):
        open_adapter(tiny_model("llama", num_hidden_layers=1).to("meta"), tmp_path, trains=False)


@pytest.mark.slow
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


def test_adapter_of_another_size_is_refused(tmp_path: Path) -> None:
    model = prepare_adapters(tiny_model("llama"), LORA)
    save_adapter(model, tmp_path, base="/no/such/base")
    with pytest.raises(ModelError, match="does not fit its base"):
        open_adapter(tiny_model("llama", hidden_size=48), tmp_path, trains=False)


def test_half_written_adapter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="without adapter_model"):
        open_adapter(tiny_model("llama"), tmp_path, trains=False)
