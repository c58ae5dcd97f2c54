"""A tokenizer with more tokens than the embedding has rows: the rows are named, and exactly these train with LoRA."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.faults.published import write_published, write_rows
from tests.tiny_chat import tiny_llama
from tests.training.command_line import exit_code, train, write_recipe
from transformers import AutoModelForCausalLM

from instil.generation.engine import Engine


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def short(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a model with 257 rows whose tokenizer has 259 tokens, its turn ends among them."""
    folder = write_published(tmp_path / "short", config={}, generation={"eos_token_id": 258})
    model = tiny_llama()
    if not request.param:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.resize_token_embeddings(257)
    model.save_pretrained(folder)
    (folder / "generation_config.json").write_text('{"eos_token_id": 258}')
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora", pytest.param("none", marks=pytest.mark.long)])
def test_exactly_these_rows_train(kind: str, short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write_rows(tmp_path / "rows.jsonl")
    change: dict[str, Any] = {
        "adapter": {"kind": kind} | ({"rank": 2} if kind == "lora" else {}),
        "data": {"heldout_share": 0.0},
        "training": {"max_steps": 3},
        "optimizer": {"lr": 1e-2},
    }
    recipe = write_recipe(tmp_path / "w", change, base=short, rows=rows)
    assert exit_code("plan", str(recipe)) == 0
    run = train(recipe)
    assert "without a row in the model got one, which trains: <|im_start|>, <|im_end|>" in capsys.readouterr().out
    tuned = AutoModelForCausalLM.from_pretrained(run.folder / "model")
    before = AutoModelForCausalLM.from_pretrained(short).get_input_embeddings().weight
    after = tuned.get_input_embeddings().weight
    assert after.shape[0] == 264
    if kind == "lora":
        assert torch.equal(before[:257], after[:257]), "the other rows are frozen"
        config = json.loads((run.folder / "adapter" / "adapter_config.json").read_text())
        assert set(map(tuple, config["trainable_token_indices"].values())) == {(257, 258)}
        for name in (run.folder, run.folder / "adapter"):
            assert Engine.load(name).stop_ids[0] == 258
    assert exit_code("export", str(run.folder), str(tmp_path / "out"), "--dtype", "fp32") == 0


@pytest.mark.slow
def test_an_adapter_goes_on(short: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl")
    change = {"adapter": {"kind": "lora", "rank": 2}, "data": {"heldout_share": 0.0}, "training": {"max_steps": 2}}
    first = train(write_recipe(tmp_path / "a", change, base=short, rows=rows))
    second = train(
        write_recipe(tmp_path / "b", {**change, "adapter": {"kind": "lora"}}, base=first.folder / "adapter", rows=rows)
    )
    assert second.finished
