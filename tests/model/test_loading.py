from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.model.saved_models import load, saved
from tests.model.tiny import VOCABULARY, tiny_model

from instil.errors import MissingPackageError, ModelError
from instil.model.loading import choose_device, load_model, weight_type
from instil.model.new_tokens import add_rows
from instil.recipe import ModelSettings


def test_loading_for_training_and_generation_choose_attention_and_type(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    training = load(tmp_path / "model")
    assert (training.config._attn_implementation, training.training) == ("instil", True)
    settings = ModelSettings(name=str(tmp_path / "model"))
    generation = load_model(settings, precision="bf16", purpose="generation")
    assert (generation.config._attn_implementation, generation.training) == ("sdpa", False)
    assert generation.dtype == torch.bfloat16
    assert weight_type("bf16", "training") == torch.float32
    assert weight_type("bf16", "training", frozen=True) == torch.bfloat16


def test_random_weights_come_from_the_seed_and_need_no_files(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    settings = ModelSettings(name=str(tmp_path / "model"), initialise="random")
    first, second, other = (load_model(settings, precision="fp32", seed=seed).lm_head.weight for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot be used"):
        choose_device("nosuch")
    assert choose_device("cpu").type == "cpu"


def test_quantised_loading_without_its_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    saved(tmp_path / "model")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'instil\[qlora\]'"):
        load(tmp_path / "model", quantize="4bit")


def test_a_head_beside_a_tied_config_stays_its_own_when_rows_are_added(tmp_path: Path) -> None:
    model = tiny_model("llama", attention="eager", tie_word_embeddings=True)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    head = weights["lm_head.weight"] = torch.randn_like(weights["model.embed_tokens.weight"])
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = load_model(ModelSettings(name=str(tmp_path)), precision="fp32")
    add_rows(loaded, VOCABULARY + 8)
    assert torch.equal(loaded.get_output_embeddings().weight[:VOCABULARY], head)
    assert not loaded.config.tie_word_embeddings
