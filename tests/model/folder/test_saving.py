from __future__ import annotations

import json
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.model.chat_tokens import base_tokenizer, give_chat_tokens
from tests.model.saved_models import TEMPLATE, Chat, load, saved
from tests.model.tiny import tiny_model

from instil.encoding.loading import load_tokenizer
from instil.errors import ModelError
from instil.model.adapters.lora import prepare_adapters
from instil.model.folder.location import locate
from instil.model.folder.saving import save_model_folder
from instil.recipe import AdapterSettings


@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_folder_loads_in_plain_transformers(tied: bool, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, chat = saved(tmp_path / "model", tie_word_embeddings=tied)
    plain = AutoModelForCausalLM.from_pretrained(str(tmp_path / "model"))
    assert plain.generation_config.eos_token_id == [98, 96]
    assert plain.generation_config.pad_token_id not in (98, None)
    assert plain.config._attn_implementation == "sdpa"
    for name, value in model.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), name
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path / "model"))
    assert tokenizer.chat_template == TEMPLATE
    assert tokenizer.eos_token_id == 98
    assert tokenizer("w5<|im_end|>").input_ids == [5, 98]
    assert chat.tokenizer.chat_template is None, "the tokenizer in memory is left as it was"
    assert {path.suffix for path in (tmp_path / "model").iterdir()} <= {".json", ".safetensors", ".jinja"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("room", [100, 20_000])
def test_a_disk_that_is_full_is_an_error_that_names_the_folder(tmp_path: Path, room: int) -> None:
    """A limit on the size of files is what Python meets with its own error and safetensors with another."""
    model, chat = saved(tmp_path / "model")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(ModelError, match=f"{tmp_path / 'other'}: the model cannot be written .*too large"):
            save_model_folder(model, chat, tmp_path / "other")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, chat = saved(tmp_path / "model")
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    with torch.no_grad():
        model.lm_head.weight.mul_(2)

    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("instil.files.sync_tree", full)
    with pytest.raises(ModelError, match="No space left"):
        save_model_folder(model, chat, tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before
    monkeypatch.undo()
    save_model_folder(model, chat, tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() != before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_weights_can_be_written_in_another_type(tmp_path: Path) -> None:
    model, chat = saved(tmp_path / "model")
    save_model_folder(model, chat, tmp_path / "half", dtype=torch.bfloat16)
    config = json.loads((tmp_path / "half" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert model.lm_head.weight.dtype == torch.float32
    again = load(tmp_path / "half")
    assert torch.equal(again.lm_head.weight, model.lm_head.weight.bfloat16().float())


@pytest.mark.slow
def test_an_adapter_is_saved_with_its_tokenizer_and_without_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import peft.utils.save_and_load as peft_saving

    def reached(*args: Any, **keywords: Any) -> bool:
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr(peft_saving, "check_file_exists_on_hf_hub", reached)
    base, tokenizer = tiny_model("llama"), base_tokenizer()
    base.save_pretrained(str(tmp_path / "base"))
    model = load(tmp_path / "base")
    rows = give_chat_tokens(model, tokenizer)
    model = prepare_adapters(model, AdapterSettings(kind="lora", rank=2), trained_ids=rows.trained_ids)
    chat = Chat(tokenizer, SimpleNamespace(as_published=TEMPLATE), (98, 96), tokenizer.pad_token_id)
    save_model_folder(model, chat, tmp_path / "adapter")
    size = (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size
    assert size < base.num_parameters(), "the embedding is not in it"
    found = locate(tmp_path / "adapter")
    assert found.tokenizer_folder == tmp_path / "adapter"
    assert load_tokenizer(found.tokenizer_folder).chat_template == TEMPLATE
    assert load(tmp_path / "adapter").get_base_model().config.vocab_size == 104
