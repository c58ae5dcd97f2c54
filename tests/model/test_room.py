from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from tests.tiny_chat import folders

from instil.errors import ModelError
from instil.model import room
from instil.model.loading import load_model
from instil.recipe import ModelSettings


def test_numbers_are_counted_from_the_headers():
    model = load_model(ModelSettings(name=str(folders()["base"])), precision="fp32", purpose="generation")
    assert room.count_numbers(folders()["base"]) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("quantize", "dtype", "fits"), [
    ("none", torch.float32, False), ("none", torch.bfloat16, True), ("4bit", torch.float32, True),
])  # fmt: skip
def test_a_model_that_does_not_fit_is_refused_before_it_is_read(monkeypatch, quantize, dtype, fits):
    folder = folders()["base"]
    monkeypatch.setattr(room, "free_bytes", lambda _: 3 * room.count_numbers(folder))
    asked = {"dtype": dtype, "quantize": quantize, "device": torch.device("cpu")}
    if fits:
        room.check_room(folder, **asked)
        return
    with pytest.raises(
        ModelError, match=r"no memory for the model: its weights need .* are free on cpu; load it in 16 bits"
    ):
        room.check_room(folder, **asked)


def test_loading_asks_for_room(monkeypatch):
    monkeypatch.setattr(room, "free_bytes", lambda _: 10)
    with pytest.raises(ModelError, match="no memory for the model"):
        load_model(ModelSettings(name=str(folders()["base"])), precision="fp32", purpose="generation")


def test_the_limit_of_a_process_counts():
    program = (
        "import resource, torch; from instil.model.room import free_bytes; import psutil\n"
        "used = psutil.Process().memory_info().vms\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000, -1))\n"
        "assert 100_000_000 < free_bytes(torch.device('cpu')) <= 300_000_000"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_the_cpus_refusal_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert room.is_out_of_memory(caught.value)
    assert not room.is_out_of_memory(RuntimeError("shapes do not fit"))
