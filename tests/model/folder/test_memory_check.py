from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.tiny_chat import folders

from instil.errors import ModelError
from instil.model.folder import memory_check
from instil.model.loading import load_model
from instil.recipe import ModelSettings


def test_numbers_are_counted_from_the_headers():
    model = load_model(ModelSettings(name=str(folders()["base"])), precision="fp32", purpose="generation")
    assert memory_check.count_weights(folders()["base"]) == (sum(p.numel() for p in model.parameters()), 0)


def test_only_what_will_be_loaded_is_counted(tmp_path: Path):
    weights = {
        "a": torch.zeros(3, 5),
        "b": torch.zeros(7, dtype=torch.bfloat16),
        "c": torch.zeros(4, dtype=torch.uint8),
    }
    save_file(weights, tmp_path / "model-00001-of-00001.safetensors")
    save_file(weights, tmp_path / "consolidated.safetensors")
    index = {"weight_map": dict.fromkeys(weights, "model-00001-of-00001.safetensors")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert memory_check.count_weights(tmp_path) == (15 + 7, 4)


@pytest.mark.parametrize(("quantize", "dtype", "fits"), [
    ("none", torch.float32, False), ("none", torch.bfloat16, True), ("4bit", torch.float32, True),
])  # fmt: skip
def test_a_model_that_does_not_fit_is_refused_before_it_is_read(monkeypatch, quantize, dtype, fits):
    folder = folders()["base"]
    monkeypatch.setattr(memory_check, "free_bytes", lambda _: 3 * memory_check.count_weights(folder)[0])
    asked = {"dtype": dtype, "quantize": quantize, "device": torch.device("cpu")}
    if fits:
        memory_check.check_room(folder, **asked)
        return
    with pytest.raises(
        ModelError, match=r"no memory for the model: its weights need .* are free on cpu\. Load the model in 16 bits"
    ):
        memory_check.check_room(folder, **asked)


def test_a_model_that_lies_in_parts_needs_room_for_the_parts_of_this_machine(monkeypatch):
    folder = folders()["base"]
    monkeypatch.setattr(memory_check, "free_bytes", lambda _: 3 * memory_check.count_weights(folder)[0])
    asked = {"dtype": torch.float32, "quantize": "none", "device": torch.device("cpu")}
    memory_check.check_room(folder, **asked, copies=1, parts=2)
    with pytest.raises(
        ModelError, match=r"for the parts of 7 of 8 processes as float32.*start more processes on further"
    ):
        memory_check.check_room(folder, **asked, copies=7, parts=8)


def test_loading_asks_for_room(monkeypatch):
    monkeypatch.setattr(memory_check, "free_bytes", lambda _: 10)
    with pytest.raises(ModelError, match="no memory for the model"):
        load_model(ModelSettings(name=str(folders()["base"])), precision="fp32", purpose="generation")
