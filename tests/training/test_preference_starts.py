"""Where a run of preferences starts: an SFT run, full or LoRA, its adapter, and a quantised base."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.command_line import make_base, train, train_fails, weights_of, write_recipe
from tests.training.pairs import SHORT, make_pairs
from tests.training.plain_preference import padded_log_probabilities

from instil.exporting.export import export
from instil.generation.engine import Engine
from instil.preparation.store import ExampleStore
from instil.training.records.run_folder import Run

pytestmark = pytest.mark.slow

LORA: dict[str, Any] = {"adapter": {"kind": "lora", "rank": 4, "dropout": 0.0}}
FULL: dict[str, Any] = {"adapter": {"kind": "none"}}
SFT: dict[str, Any] = {"training": {**SHORT["training"], "max_steps": 3}, "optimizer": {"lr": 5e-3}}
DPO: dict[str, Any] = {"training": {**SHORT["training"], "max_steps": 2, "objective": "dpo"}, "optimizer": {"lr": 2e-3}}


@dataclass(frozen=True)
class Starts:
    """SFT runs to start from, by what they trained."""

    pairs: Path
    full: Run
    lora: Run


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory, base: Path, rows: Path) -> Starts:
    folder = tmp_path_factory.mktemp("sft")
    runs = {
        name: train(write_recipe(folder / name, SHORT, SFT, change, base=base, rows=rows))
        for name, change in (("full", FULL), ("lora", LORA))
    }
    return Starts(make_pairs(folder / "pairs.jsonl"), **runs)


def reference_of(run: Run, pairs: Path) -> tuple[ExampleStore, np.ndarray]:
    """Return a run's training examples, and the reference's log-probabilities of them, from its file."""
    (folder,) = [
        path for path in (pairs.parent / "store").iterdir() if path.name in (run.folder / "ledger.json").read_text()
    ]
    (file,) = run.folder.glob("reference-*.npz")
    with np.load(file) as read:
        return ExampleStore.open(folder), read["own"]


def load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@torch.no_grad()
def logits_of(model: Any) -> torch.Tensor:
    ids = torch.arange(1, 40).reshape(1, -1)
    logits: torch.Tensor = model.eval()(input_ids=ids, use_cache=False).logits
    return logits


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("change", [LORA, FULL], ids=["lora", "full"])
@pytest.mark.parametrize("name", ["run of full training", "run with an adapter", "adapter folder"])
def test_the_reference_is_the_sft_model_and_the_result_loads_elsewhere(
    tmp_path: Path, starts: Starts, name: str, change: dict[str, Any]
):
    from peft import PeftModel

    sft = starts.full if name == "run of full training" else starts.lora
    start = sft.folder / "adapter" if name == "adapter folder" else sft.folder
    run = train(write_recipe(tmp_path, SHORT, DPO, change, base=start, rows=starts.pairs))
    examples, own = reference_of(run, starts.pairs)
    seen = np.flatnonzero(np.isfinite(own))
    assert len(seen) > 4
    some = [examples[int(number)] for number in seen]
    with torch.no_grad():
        expected = padded_log_probabilities(load(sft.model_folder), some).numpy()
    assert own[seen] == pytest.approx(expected, abs=1e-4)

    trained = logits_of(load(run.model_folder))
    assert not torch.allclose(trained, logits_of(load(sft.model_folder)), atol=1e-3)
    merged = export(run.folder, tmp_path / "merged", dtype="fp32")
    assert torch.equal(logits_of(load(merged.folder)), trained)
    if change is LORA:
        before = load(sft.model_folder)
        assert torch.allclose(logits_of(PeftModel.from_pretrained(before, run.folder / "adapter")), trained, atol=1e-5)
        alone = export(run.folder, tmp_path / "alone", target="adapter")
        assert torch.allclose(logits_of(Engine.load(alone.folder).model), trained, atol=1e-5)


def test_the_reference_is_not_the_base(tmp_path: Path, base: Path, starts: Starts):
    run = train(write_recipe(tmp_path, SHORT, DPO, LORA, base=starts.lora.folder, rows=starts.pairs))
    other = train(write_recipe(tmp_path / "base", SHORT, DPO, LORA, base=base, rows=starts.pairs))
    own, others = reference_of(run, starts.pairs)[1], reference_of(other, starts.pairs)[1]
    assert np.nanmin(np.abs(own - others)) > 1e-2


def test_an_adapter_without_a_merged_model_has_to_be_merged_first(
    tmp_path: Path, starts: Starts, capsys: pytest.CaptureFixture[str]
):
    alone = tmp_path / "alone"
    shutil.copytree(starts.lora.folder / "adapter", alone)
    said = train_fails(write_recipe(tmp_path / "a", SHORT, DPO, LORA, base=alone, rows=starts.pairs), capsys=capsys)
    assert f"model.name: {alone} is an adapter, and a new adapter needs a base that holds what this one learned" in said
    assert f"instil export {alone} FOLDER" in said
    run = train(write_recipe(tmp_path / "b", SHORT, DPO, FULL, base=alone, rows=starts.pairs))
    examples, own = reference_of(run, starts.pairs)
    seen = np.flatnonzero(np.isfinite(own))
    with torch.no_grad():
        expected = padded_log_probabilities(load(starts.lora.model_folder), [examples[int(n)] for n in seen]).numpy()
    assert own[seen] == pytest.approx(expected, abs=1e-4)


def test_continuing_an_adapter_is_refused_with_the_question(
    tmp_path: Path, base: Path, starts: Starts, capsys: pytest.CaptureFixture[str]
):
    adapter = starts.lora.folder / "adapter"
    change = {"adapter": {"kind": "lora", "resume_from": str(adapter)}}
    said = train_fails(write_recipe(tmp_path, SHORT, DPO, change, base=base, rows=starts.pairs), capsys=capsys)
    assert "Which model is the reference is not clear: the base, or the base with this adapter." in said
    assert "name the run or the adapter in model.name" in said


@pytest.mark.long
@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes: 2 cases left out")
@pytest.mark.parametrize("quantize", ["4bit", pytest.param("8bit", marks=pytest.mark.long)])
@pytest.mark.parametrize("micro_batch_tokens", [60, pytest.param(2048, marks=pytest.mark.long)])
def test_a_quantised_base_is_its_own_reference(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    starts: Starts,
    capsys: pytest.CaptureFixture[str],
    quantize: str,
    micro_batch_tokens: int,
):
    wide = make_base(tmp_path_factory.mktemp("wide"), width=128)
    precision = {"training": {**DPO["training"], "precision": "bf16", "micro_batch_tokens": micro_batch_tokens}}
    change = {"model": {"quantize": quantize, "name": str(wide)}}
    run = train(write_recipe(tmp_path, SHORT, DPO, LORA, precision, change, base=wide, rows=starts.pairs))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("start ")]
    assert "proved: loss 0.69" in line
    assert {weight.dtype for weight in weights_of(run).values()} == {torch.bfloat16}
    first = next(line for line in run.metrics() if "loss" in line)
    assert first["loss"] == pytest.approx(np.log(2), abs=2e-2)
