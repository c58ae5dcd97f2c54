"""No memory for the model, verb by verb: one line that says what to do, exit status 2, nothing written."""

from __future__ import annotations

import importlib
import json
import os
import struct

import pytest
import torch
from tests.forks import exit_code_of
from tests.tiny_chat import tiny_llama, tiny_tokenizer
from tests.training.command_line import exit_code, forked

from instil.model.folder import memory_check as room

VERBS = {
    "chat": ["chat", "model"],
    "chat --against": ["chat", "small", "--against", "model"],
    "generate": ["generate", "model", "--prompts", "rows.jsonl", "--out", "out.jsonl"],
    "evaluate": ["evaluate", "model", "--data", "rows.jsonl", "--out", "report"],
    "evaluate --against": ["evaluate", "small", "--against", "model", "--data", "rows.jsonl", "--out", "report"],
    "serve": ["serve", "model", "--port", "0"],
    "export": ["export", "model", "out", "--device", "cpu"],
    "export --as gguf": ["export", "model", "out", "--as", "gguf", "--device", "cpu"],
    "train": ["train", "recipe.yaml"],
}
RECIPE = "model: {name: model}\ndata: {sources: [rows.jsonl], heldout_max: 0, store: store}\ntraining: {max_steps: 1}\ndevice: cpu\n"


def write(root, *, width: int | None = None) -> None:
    """Write a model, a small one beside it, rows and a recipe; with a width, the model's weights are 6 GB of nothing that take no room on the disk."""
    for name in ("model", "small"):
        model = tiny_llama(layers=1)
        model.save_pretrained(root / name)
        tiny_tokenizer().save_pretrained(root / name)
    row = {"question": "Capital of Peru?", "answer": "Lima"}
    (root / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (root / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    if width is not None:
        hollow(root / "model", width)


def hollow(folder, width: int) -> None:
    from transformers import LlamaForCausalLM

    config = tiny_llama(layers=1).config
    config.update({"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": 8})
    config.save_pretrained(folder)
    with torch.device("meta"):
        tensors = LlamaForCausalLM(config).state_dict()
    header, end = {}, 0
    for name, value in tensors.items():
        if name != "lm_head.weight":  # tied
            start, end = end, end + value.numel() * 4
            header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [start, end]}
    head = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        file.truncate(8 + len(head) + end)


@pytest.fixture
def root(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(words, capfd, root) -> str:
    """Run a command that must be refused; return its error."""
    before = set(root.rglob("*"))
    capfd.readouterr()
    assert exit_code(*words) == 2
    error = capfd.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    assert set(root.rglob("*")) == before
    return error


@pytest.mark.parametrize("verb", VERBS)
def test_a_model_that_does_not_fit_is_refused_by_every_verb(verb, root, monkeypatch, capfd):
    free = room.count_weights(root / "small")[0]  # a byte each: four, or two, are needed
    monkeypatch.setattr(room, "free_bytes", lambda _: free if "against" not in verb else next(ample))
    ample = iter([10**9, free])
    error = refused(VERBS[verb], capfd, root)
    assert "model: no memory for the model: its weights need" in error
    assert "Load the model in 16 bits or quantised" in error


@pytest.mark.slow
def test_plan_reports_that_it_does_not_fit(root, monkeypatch, capfd):
    monkeypatch.setattr("instil.training.memory.usage.free_bytes", lambda _: 1000)
    assert exit_code("plan", "recipe.yaml") == 0
    verdict = next(line for line in capfd.readouterr().out.splitlines() if line.startswith("verdict"))
    assert "will probably not fit" in verdict


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "where"),
    [
        ("evaluate", "instil.evaluation.evaluate.heldout_loss"),
        ("export", "instil.exporting.export.write_model_files"),
        ("export --as gguf", "instil.exporting.gguf_export.write_gguf"),
        ("chat", "instil.model.loading.set_attention"),
    ],
)
@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
    ids=["python", "cuda", "cpu"],
)
def test_memory_that_ends_at_work_is_one_line_too(verb, where, error, root, monkeypatch, capfd):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(where, full)
    line = refused([*VERBS[verb], *(["--max-new-tokens", "2"] if verb == "evaluate" else [])], capfd, root)
    assert "no memory" in line
    assert "--load 4bit" in line


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("one_thread")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork: 6 cases left out")
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
@pytest.mark.parametrize("verb", ["generate", "export", "train"])
def test_a_limit_of_the_process_is_respected(verb, limit, tmp_path, monkeypatch):
    # what a verb imports later would count as its memory
    for module in ("generation.engine", "exporting.export", "training.run", "data.formats"):
        importlib.import_module(f"instil.{module}")
    import peft  # noqa: F401

    folder, output = tmp_path / "folder", tmp_path / "said.txt"
    folder.mkdir()
    write(folder, width=4096)
    monkeypatch.chdir(folder)
    before = set(folder.rglob("*"))
    code = exit_code_of(forked(*VERBS[verb], said=output, memory=(limit, 10**9)))
    error = output.read_text(encoding="utf-8").strip()
    assert code == 2, error
    assert "\n" not in error
    assert "no memory for the model" in error
    assert set(folder.rglob("*")) == before
