from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.command_line import (
    assert_equal_runs,
    losses_of,
    make_base,
    same_bits,
    train,
    train_on_two,
    weights_of,
    write_recipe,
)
from tests.training.stops import interrupted, rewind

from instil.recipe import Recipe
from instil.training.records.run_folder import Run
from instil.training.step.precision import Precision, choose_precision
from instil.training.step.sharding import why_no_shards

KEEP_ALL = {"checkpoint": {"every": 3, "keep_last": 99}}


TWO = {"parallel": {"processes": 2}, "evaluate": {"every": 6, "max_new_tokens": 2}}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.long)])
def test_sharded_equals_replicated_and_goes_on_with_another_number_of_processes(
    tmp_path: Path, base: Path, rows: Path, reference: Run, precision: str
):
    change: tuple[dict[str, Any], ...] = (KEEP_ALL, {"training": {"precision": precision}})
    sharded = {"parallel": {"processes": 2, "mode": "sharded"}, "evaluate": TWO["evaluate"]}
    run = train_on_two(write_recipe(tmp_path / "two", *change, sharded, base=base, rows=rows))
    if precision == "fp32":
        assert_equal_runs(run, reference)
    pieces = sorted(path.name for path in (run.folder / "checkpoints" / "step-000006").glob("weights-*"))
    assert pieces == ["weights-00000.safetensors", "weights-00001.safetensors"]
    recipe = write_recipe(tmp_path / "one", *change, base=base, rows=rows)
    rewind(run, 6, tmp_path / "one" / "run")
    resumed = train(recipe, "--resume", "--parallel.processes", "1", "--parallel.mode", "replicated")
    tolerance = 1e-4 if precision == "fp32" else 0.05
    assert losses_of(resumed) == pytest.approx(losses_of(run), abs=tolerance)
    for name, weight in weights_of(run).items():
        assert torch.allclose(weight.float(), weights_of(resumed)[name].float(), atol=20 * tolerance), name


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({}, id="full"),
        pytest.param({"adapter": {"kind": "lora", "rank": 4}}, id="lora", marks=pytest.mark.long),
    ],
)
@pytest.mark.slow
def test_a_run_of_one_process_goes_on_in_shards_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path, change: dict[str, Any]
):
    short = {"training": {"max_steps": 6}, "evaluate": {"every": 6, "max_new_tokens": 1}, "checkpoint": {"every": 2}}
    whole = train(write_recipe(tmp_path / "a", change, short, base=base, rows=rows))
    recipe = write_recipe(tmp_path / "b", change, short, base=base, rows=rows)
    interrupted(monkeypatch, recipe, 2)
    in_shards = train_on_two(recipe, "--resume", "--parallel.processes", "2", "--parallel.mode", "sharded")
    assert_equal_runs(in_shards, whole)
    rewind(in_shards, 4, tmp_path / "c" / "run")
    assert len(list((tmp_path / "c" / "run" / "checkpoints" / "step-000004").glob("weights-*"))) == 2
    back = train(write_recipe(tmp_path / "c", change, short, base=base, rows=rows), "--resume")
    assert_equal_runs(back, whole)
    for name, weight in weights_of(whole).items():
        assert torch.allclose(weight, weights_of(back)[name], atol=1e-4), name


WIDENED: dict[str, dict[str, Any]] = {
    "8-bit AdamW": {"optimizer": {"name": "adamw_8bit"}},
    "pure bf16": {"training": {"precision": "pure_bf16"}},
    "all offloaded": {"parallel": {"offload": "all"}},
    "QLoRA, 4 bits": {"model": {"quantize": "4bit"}, "adapter": {"kind": "lora", "rank": 4}},
    "QLoRA, 8 bits, 8-bit AdamW": {
        "model": {"quantize": "8bit"},
        "adapter": {"kind": "lora", "rank": 4},
        "optimizer": {"name": "adamw_8bit"},
    },
}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that bitsandbytes can pack to 4 bits."""
    return make_base(tmp_path_factory.mktemp("wide"), width=128)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", WIDENED)
def test_a_sharded_run_has_the_losses_of_one_process_and_goes_on_to_the_same_bits(
    tmp_path: Path, wide: Path, rows: Path, name: str
):
    """And from one process's checkpoint in shards, within the rounding of 8 bits and of bf16."""
    pytest.importorskip("bitsandbytes")
    base = wide
    short = {"training": {"max_steps": 4}, "evaluate": {"every": 4, "max_new_tokens": 1}, "checkpoint": {"every": 2}}
    changes = (short, WIDENED[name])
    unsharded = {key: value for key, value in WIDENED[name].items() if key != "parallel"}
    alone = train(write_recipe(tmp_path / "one", short, unsharded, base=base, rows=rows))
    two = {"parallel": {"processes": 2, "mode": "sharded", **WIDENED[name].get("parallel", {})}}
    run = train_on_two(write_recipe(tmp_path / "two", *changes, two, base=base, rows=rows))
    assert losses_of(run) == pytest.approx(losses_of(alone), abs=0.03)
    assert run.results["heldout_loss"] == pytest.approx(alone.results["heldout_loss"], abs=0.03)
    of_one = weights_of(alone)
    for weight, value in weights_of(run).items():
        assert torch.allclose(value.float(), of_one[weight].float(), atol=0.02), weight
    recipe = write_recipe(tmp_path / "again", *changes, two, base=base, rows=rows)
    rewind(run, 2, tmp_path / "again" / "run")
    assert same_bits(train_on_two(recipe, "--resume"), run)
    mixed = write_recipe(tmp_path / "mixed", *changes, two, base=base, rows=rows)
    rewind(alone, 2, tmp_path / "mixed" / "run")
    assert losses_of(train_on_two(mixed, "--resume")) == pytest.approx(losses_of(alone), abs=0.03)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("precision", [pytest.param("fp32", marks=pytest.mark.long), "bf16"])
def test_sharded_lora_equals_one_process(tmp_path: Path, base: Path, rows: Path, precision: str):
    short = {"training": {"max_steps": 4, "precision": precision}, "evaluate": TWO["evaluate"]}
    change = ({"adapter": {"kind": "lora", "rank": 4}}, short)
    alone = train(write_recipe(tmp_path / "one", *change, base=base, rows=rows))
    two = {"parallel": {"processes": 2, "mode": "sharded"}}
    run = train_on_two(write_recipe(tmp_path / "two", *change, two, base=base, rows=rows))
    if precision == "fp32":
        assert_equal_runs(run, alone)
    for name, weight in weights_of(alone).items():
        assert torch.allclose(weight, weights_of(run)[name], atol=1e-4 if precision == "fp32" else 0.02), name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"optimizer": {"name": "muon"}}, "optimizer.name: muon"),
        ({"optimizer": {"name": "adafactor"}}, "optimizer.name: adafactor"),
        (
            {"model": {"quantize": "4bit"}, "adapter": {"kind": "lora", "dora": True}},
            "adapter.dora with model.quantize: 4bit",
        ),
    ],
)
def test_what_is_not_built_for_shards_is_refused_by_name(change: dict[str, Any], said: str):
    recipe = Recipe.from_mapping({"training": {"precision": "fp32"}} | change)
    precision = choose_precision(recipe.training.precision, torch.device("cpu"))
    reason = why_no_shards(
        precision, optimizer=recipe.optimizer.name, quantize=recipe.model.quantize, dora=recipe.adapter.dora
    )
    assert reason is not None
    assert reason.startswith(said)


def test_fp16_is_not_sharded():
    fp16 = Precision("fp16", torch.float16, masters=True, scaled=True)
    assert "fp16" in str(why_no_shards(fp16, optimizer="adamw", quantize="none"))
