from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.model.tiny import SMALL
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from instil.errors import ModelError
from instil.model.folder.from_config import auto_class, model_of_config, unusable
from instil.model.folder.location import ModelLocation

HERE = ModelLocation("here", "folder", Path("here"))


@pytest.mark.parametrize(
    ("model_type", "architectures", "expected"),
    [
        ("llama", ["LlamaForCausalLM"], AutoModelForCausalLM),
        ("llama", None, AutoModelForCausalLM),
        ("gemma3", ["Gemma3ForConditionalGeneration"], AutoModelForImageTextToText),
        ("qwen2_5_vl", None, AutoModelForImageTextToText),
    ],
)
def test_a_model_is_loaded_as_what_its_checkpoint_says(
    model_type: str, architectures: list[str] | None, expected: type
) -> None:
    config = AutoConfig.for_model(model_type)
    config.architectures = architectures
    assert auto_class(config) is expected


def test_a_model_of_a_config_trains_with_our_attention_and_needs_no_weights() -> None:
    with torch.device("meta"):
        model = model_of_config(HERE, AutoConfig.for_model("llama", **SMALL), trust=False, dtype=torch.bfloat16)
    assert all(value.is_meta and value.dtype == torch.bfloat16 for value in model.parameters())
    assert model.config._attn_implementation == "instil"


def test_a_config_that_transformers_cannot_use_is_refused_with_its_folder() -> None:
    with pytest.raises(
        ModelError, match=r"here: transformers cannot load it \(KeyError 'nosuch'\)\. Correct config\.json"
    ):
        model_of_config(HERE, AutoConfig.for_model("llama", **SMALL, hidden_act="nosuch"), trust=False)


def test_missing_memory_is_worded_as_such() -> None:
    error = unusable(HERE, torch.OutOfMemoryError("CUDA out of memory"), "cuda")
    assert str(error).startswith("here: no memory for the model on cuda. Load the model in 16 bits or quantised")
