from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.tiny_chat import folders

from instil.errors import ModelError
from instil.model import device_memory
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


def test_files_that_the_system_keeps_count_as_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 150\ninactive_file 350\nactive_file 400\n")
    monkeypatch.setattr(device_memory, "_GROUP", tmp_path)
    assert device_memory.free_bytes(torch.device("cpu")) == 850
    (tmp_path / "memory.max").write_text("max\n")
    assert device_memory.free_bytes(torch.device("cpu")) > 1000


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
        ModelError, match=r"no memory for the model: its weights need .* are free on cpu; load the model in 16 bits"
    ):
        memory_check.check_room(folder, **asked)


def test_loading_asks_for_room(monkeypatch):
    monkeypatch.setattr(memory_check, "free_bytes", lambda _: 10)
    with pytest.raises(ModelError, match="no memory for the model"):
        load_model(ModelSettings(name=str(folders()["base"])), precision="fp32", purpose="generation")


@pytest.mark.slow
def test_the_limit_of_a_process_counts():
    program = (
        "import resource, torch; from instil.model.device_memory import free_bytes; import psutil\n"
        "used = psutil.Process().memory_info().vms\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000, -1))\n"
        "assert 100_000_000 < free_bytes(torch.device('cpu')) <= 300_000_000"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_the_cpus_refusal_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert device_memory.is_out_of_memory(caught.value)
    assert not device_memory.is_out_of_memory(RuntimeError("shapes do not fit"))
