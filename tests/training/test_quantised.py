from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.training.command_line import losses_of, make_base, same_bits, train, weights_of, write_recipe
from tests.training.steps import train as train_steps
from tests.training.stops import interrupted
from tests.training.tiny import LearnerMaker

from instil import read
from instil.conversation import Example
from instil.exporting.export import export

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes: 5 cases left out"),
]


def test_8_bit_adamw_learns(make_learner: LearnerMaker, examples: list[Example]):
    losses = train_steps(make_learner(examples, optimizer="adamw_8bit"), steps=8, batch_size=11)
    assert losses[-1] < losses[0] - 0.1


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base whose layers are multiples of 64 wide: bitsandbytes 0.50 packs no narrower ones on a CPU."""
    return make_base(tmp_path_factory.mktemp("wide"), width=128)


def assert_it_goes_on_to_the_same_bits(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, base: Path, rows: Path
) -> None:
    whole = train(write_recipe(tmp_path / "a", change, base=base, rows=rows))
    recipe = write_recipe(tmp_path / "b", change, base=base, rows=rows)
    interrupted(monkeypatch, recipe, 2)
    resumed = train(recipe, "--resume")
    assert losses_of(resumed) == losses_of(whole)
    assert same_bits(resumed, whole)


@pytest.mark.parametrize("quantize", ["4bit", pytest.param("8bit", marks=pytest.mark.long)])
def test_qlora_goes_on_to_the_same_bits_after_samples_and_evaluations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wide: Path, rows: Path, quantize: str
):
    change = {
        "model": {"quantize": quantize},
        "adapter": {"kind": "lora", "rank": 4, "dropout": 0.1},
        "training": {"max_steps": 3, "precision": "bf16"},
        "optimizer": {"lr": 2e-3},
        "evaluate": {"every": 1, "max_new_tokens": 2, "samples": ["1+1"]},
        "checkpoint": {"every": 1},
    }
    assert_it_goes_on_to_the_same_bits(change, tmp_path, monkeypatch, base=wide, rows=rows)


def test_8_bit_adamw_is_saved_and_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wide: Path, rows: Path
):
    change = {
        "training": {"max_steps": 3, "batch_size": 2},
        "optimizer": {"name": "adamw_8bit", "lr": 1e-3},
        "evaluate": {"every": 3},
        "checkpoint": {"every": 1},
    }
    # the tensors of this base have 4,096 numbers and more: the states of smaller ones stay in fp32
    assert_it_goes_on_to_the_same_bits(change, tmp_path, monkeypatch, base=wide, rows=rows)


@pytest.mark.parametrize("quantize", ["4bit", pytest.param("8bit", marks=pytest.mark.long)])
def test_qlora_trains_and_writes_a_merged_16_bit_model(tmp_path: Path, wide: Path, rows: Path, quantize: str):
    change = {
        "model": {"quantize": quantize},
        "adapter": {"kind": "lora", "rank": 4},
        "training": {"max_steps": 3, "precision": "bf16"},
        "optimizer": {"lr": 2e-3},
    }
    run = train(write_recipe(tmp_path, change, base=wide, rows=rows))
    assert len(losses_of(run)) == 3
    assert (run.folder / "adapter" / "adapter_model.safetensors").exists()
    dtypes = {weight.dtype for weight in weights_of(run).values()}
    assert dtypes == {torch.bfloat16}
    merged = export(run.folder, tmp_path / "merged", dtype="fp32", rows=list(read(rows)))
    assert merged.parity.logit_change is not None
    alone = export(run.folder, tmp_path / "alone", target="adapter", rows=list(read(rows)))
    factors = load_file(alone.folder / "adapter_model.safetensors")
    name = "model.layers.0.self_attn.q_proj"
    down, up = (factors[f"base_model.model.{name}.lora_{part}.weight"].float() for part in "AB")
    config = json.loads((alone.folder / "adapter_config.json").read_text(encoding="utf-8"))
    before = load_file(wide / "model.safetensors")[f"{name}.weight"].float()
    after = load_file(merged.folder / "model.safetensors")[f"{name}.weight"].float()
    product = config["lora_alpha"] / config["r"] * up @ down
    assert (
        after - before - product
    ).abs().max() <= 0.01 * before.abs().max()  # 4-bit weights lie a tenth of their largest off
