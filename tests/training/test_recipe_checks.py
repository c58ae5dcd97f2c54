from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from tests.model.tiny import tiny_model
from tests.training.architectures import EVERY
from tests.training.command_line import (
    exit_code,
    run_on_two,
    train_fails,
    write_recipe,
)
from tests.training.tiny import CPU

from instil.errors import RecipeError
from instil.model.folder.config import context_length
from instil.model.folder.location import ModelLocation
from instil.recipe import Recipe
from instil.training.recipe_checks import (
    check_heads,
    check_heldout,
    check_positions,
    check_settings,
    notes_of,
    saved_adapter,
)
from instil.training.step.order import plan_order
from instil.training.step.precision import choose_precision


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"evaluate": {"patience": 2}}, "evaluate.patience"),
        ({"evaluate": {"tasks": ["exact_match"]}}, "evaluate.tasks"),
        ({"checkpoint": {"final": "best"}}, "checkpoint.final: best"),
    ],
)
def test_what_needs_heldout_rows_is_refused_without_them(settings: dict[str, Any], named: str):
    recipe = Recipe.from_mapping(settings)
    check_heldout(recipe, 1)
    with pytest.raises(RecipeError, match=f"^{named}: no row is held out"):
        check_heldout(recipe, 0)
    check_heldout(Recipe(), 0)


def test_early_stopping_without_heldout_rows_leaves_nothing_behind(
    tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    changes = {"data": {"heldout_share": 0}, "evaluate": {"patience": 1}}
    recipe = write_recipe(tmp_path, changes, base=base, rows=rows)
    assert "evaluate.patience" in train_fails(recipe, capsys=capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"optimizer": {"warmup": 100}}, "optimizer.warmup: 100 steps, but the run has 6"),
        ({"adapter": {"rank": 8, "dora": True}}, "adapter.rank, adapter.dora has no effect with adapter.kind: none"),
        ({"adapter": {"kind": "lora", "rank": 8}, "optimizer": {"warmup": 2}}, None),
        (
            {"device": "cpu", "parallel": {"offload": "optimizer"}},
            "parallel.offload: optimizer frees no memory on a device of type cpu",
        ),
        (
            {"device": "cpu", "training": {"offload_activations": "on"}},
            "training.offload_activations: on frees no memory on a device of type cpu",
        ),
    ],
)
def test_settings_without_their_effect_are_named(settings: dict[str, Any], said: str | None):
    recipe = Recipe.from_mapping(settings)
    notes = notes_of(recipe, plan_order(40, batch_size=recipe.training.batch_size, max_steps=6))
    assert [note[: len(said or "")] for note in notes] == ([] if said is None else [said])


def write_adapter(folder: Path) -> ModelLocation:
    config = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "use_dora": True, "target_modules": ["q_proj", "v_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return ModelLocation("adapter", "adapter", folder, folder, "base")


@pytest.mark.parametrize(
    ("parallel", "num_ranks", "said"),
    [
        ({"mode": "sharded"}, 1, "parallel.mode is sharded and parallel.processes 1. Expected weights in shards"),
        ({"mode": "auto"}, 2, "parallel.mode is auto and parallel.processes 2"),
        ({"mode": "sharded"}, 2, None),
    ],
)
def test_weights_that_are_not_in_shards_are_not_offloaded(parallel: dict[str, Any], num_ranks: int, said: str | None):
    recipe = Recipe.from_mapping({"parallel": {"offload": "all", **parallel}})
    precision = choose_precision("fp32", CPU)
    if said is None:
        check_settings(recipe, precision, device=CPU, num_ranks=num_ranks)
        return
    with pytest.raises(RecipeError, match=f"^parallel.offload: all, but {said}"):
        check_settings(recipe, precision, device=CPU, num_ranks=num_ranks)


def test_going_on_with_an_adapter_keeps_its_own_settings(tmp_path: Path):
    location = write_adapter(tmp_path)
    for given in ({}, {"rank": 4}, {"targets": ["v_proj", "q_proj"]}, {"targets": "all-linear", "alpha": 8}):
        recipe = Recipe.from_mapping({"adapter": {"kind": "lora", **given}})
        recipe = recipe.override({"adapter": saved_adapter(recipe.adapter, location)})
        adapter = recipe.adapter
        assert (adapter.rank, adapter.alpha, adapter.dropout, adapter.dora) == (4, 8.0, 0.1, True)
        assert recipe.override({"adapter": saved_adapter(adapter, location)}) == recipe
    for name, value in {"rank": 7, "alpha": 1.0, "dropout": 0.0, "dora": False, "targets": ["q_proj"]}.items():
        wrong = Recipe.from_mapping({"adapter": {"kind": "lora", name: value}})
        with pytest.raises(RecipeError, match=rf"^adapter\.{name}: found .*, but training continues the adapter in"):
            saved_adapter(wrong.adapter, location)


def test_an_adapter_to_go_on_with_needs_a_recipe_that_trains_one(tmp_path: Path):
    recipe = Recipe.from_mapping({"adapter": {"resume_from": str(tmp_path)}})
    with pytest.raises(RecipeError, match=r"^adapter\.resume_from: found .*, but adapter\.kind is none"):
        saved_adapter(recipe.adapter, ModelLocation("demo", "base", tmp_path))


def test_the_adapter_to_go_on_with_may_be_an_option_beside_a_recipe_that_trains_one(
    tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = write_recipe(tmp_path, {"adapter": {"kind": "lora"}}, base=base, rows=rows)
    said = train_fails(recipe, "--adapter.resume-from", str(tmp_path), capsys=capsys)
    assert "holds no adapter_config.json" in said


def test_no_adapter_to_go_on_with_is_said_as_that(tmp_path: Path):
    recipe = Recipe.from_mapping({"adapter": {"kind": "lora", "resume_from": str(tmp_path)}})
    with pytest.raises(
        RecipeError, match=r"^adapter\.resume_from: .* holds no adapter_config\.json\. Expected an adapter"
    ):
        saved_adapter(recipe.adapter, ModelLocation("demo", "base", tmp_path))


def test_two_adapters_to_go_on_with_are_refused_before_the_data_is_looked_at(tmp_path: Path):
    recipe = Recipe.from_mapping({"adapter": {"kind": "lora", "resume_from": "other/adapter"}})
    with pytest.raises(
        RecipeError, match=r"^adapter\.resume_from: found 'other/adapter', but model\.name is an adapter"
    ):
        saved_adapter(recipe.adapter, write_adapter(tmp_path))


def test_examples_longer_than_a_table_of_positions_are_refused_and_than_rotary_ones_noted():
    with pytest.raises(
        RecipeError, match=r"data\.max_tokens: 129, but mine has a table of 128 positions\. Set it to 128"
    ):
        check_positions(129, tiny_model("gpt2"), name="mine")
    (note,) = check_positions(129, tiny_model("llama"), name="mine")
    assert "mine was made for 128 tokens" in note
    assert check_positions(128, tiny_model("gpt2"), name="mine") == []


@pytest.mark.parametrize("name", ["gptj", "mpt", "gpt_neo"])
def test_positions_in_a_buffer_or_in_biases_are_a_table_too(name: str):
    model = tiny_model(name, attention="eager", settings=EVERY[name])
    limit = context_length(model.config)
    assert limit is not None
    with pytest.raises(RecipeError, match=f"mine has a table of {limit} positions"):
        check_positions(limit + 1, model, name="mine")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"quantize": "4bit"}}, "model.quantize: 4bit, but adapter.kind is none"),
        (
            {"model": {"quantize": "8bit"}, "adapter": {"kind": "lora"}, "training": {"compile": "on"}},
            "training.compile: on: not with a quantised base",
        ),
        (
            {"parallel": {"processes": 2, "mode": "sharded"}, "optimizer": {"name": "muon"}},
            "optimizer.name: muon: not with sharded weights",
        ),
    ],
)
def test_settings_that_no_model_makes_right_are_refused_before_the_data_is_prepared(
    tmp_path: Path, base: Path, rows: Path, changes: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
):
    recipe = write_recipe(tmp_path, changes, base=base, rows=rows)
    assert exit_code("plan", str(recipe)) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "rows in" not in captured.out


@pytest.mark.parametrize(
    ("changes", "needs"),
    [
        ({"optimizer": {"name": "adamw_8bit"}}, "optimizer.name: adamw_8bit"),
        ({"model": {"quantize": "4bit"}, "adapter": {"kind": "lora"}}, "model.quantize: 4bit"),
    ],
)
def test_a_missing_package_is_said_before_the_data_is_prepared(
    tmp_path: Path,
    base: Path,
    rows: Path,
    changes: dict[str, Any],
    needs: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: None if name == "bitsandbytes" else found(name, *more)
    )
    assert exit_code("train", str(write_recipe(tmp_path, changes, base=base, rows=rows))) == 2
    captured = capsys.readouterr()
    assert f"{needs}: the package bitsandbytes is not installed" in captured.err
    assert "rows in" not in captured.out
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_shards_that_are_asked_for_and_not_built_are_one_line(tmp_path: Path, base: Path, rows: Path):
    sharded = {"parallel": {"processes": 2, "mode": "sharded"}, "optimizer": {"name": "muon"}}
    codes, said = run_on_two(write_recipe(tmp_path, sharded, base=base, rows=rows))
    assert codes == [2, 2]
    assert all("error: optimizer.name: muon: not with sharded weights" in one for one in said)
    assert not (tmp_path / "run").exists()


def test_fewer_heads_than_processes_that_share_tokens_are_refused_before_the_data(
    tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    check_heads(tiny_model("llama"), sequence=4)
    with pytest.raises(RecipeError, match=r"^parallel\.sequence: 8, but LlamaForCausalLM .* it has 4 attention heads"):
        check_heads(tiny_model("llama"), sequence=8)
    recipe = write_recipe(tmp_path, {"parallel": {"processes": 8, "sequence": 8}}, base=base, rows=rows)
    capsys.readouterr()
    assert exit_code("plan", str(recipe)) == 2
    assert "Set parallel.sequence to 4 or less." in capsys.readouterr().err
    assert exit_code("plan", str(recipe), "--parallel.processes", "1") == 2
    assert "parallel.sequence: 8, but the run has 1 process" in capsys.readouterr().err
