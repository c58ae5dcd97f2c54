from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.model.tiny import tiny_model
from tests.training.command_line import (
    exit_code,
    forked,
    losses_of,
    same_bits,
    train,
    train_fails,
    write_recipe,
)
from tests.training.stops import interrupted, killed_after, stop_after

from instil.errors import RunError
from instil.recipe import Recipe
from instil.training.checkpoints.checkpoint import Progress
from instil.training.records.run_folder import Run, RunPaths, read_run_json
from instil.training.resume import resumed_recipe, with_micro_batches


@pytest.mark.parametrize("step", [5, *(pytest.param(step, marks=pytest.mark.long) for step in (1, 2, 8, 11))])
def test_a_run_stopped_at_any_step_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path, reference: Run, step: int
):
    recipe = write_recipe(tmp_path, base=base, rows=rows)
    interrupted(monkeypatch, recipe, step)
    stopped = Run.open(tmp_path / "run")
    assert not stopped.finished
    assert len(losses_of(stopped)) == step
    resumed = train(recipe, "--resume")
    assert losses_of(resumed) == losses_of(reference)
    assert same_bits(resumed, reference)


LORA = {"adapter": {"kind": "lora", "rank": 4, "dropout": 0.2}}


NOISE = {"training": {"neftune_alpha": 5.0}}


@pytest.mark.parametrize(
    "change",
    [LORA | NOISE, pytest.param(NOISE | {"optimizer": {"name": "muon"}}, marks=pytest.mark.long)],
    ids=["lora", "muon"],
)
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.long)])
@pytest.mark.slow
def test_resuming_repeats_dropout_and_noise(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    base_with_dropout: Path,
    rows: Path,
    change: dict[str, Any],
    precision: str,
):
    fixed = {"training": {**change.get("training", {}), "precision": precision}}
    short = {"training": {**fixed["training"], "max_steps": 5}, "checkpoint": {"every": 1}}
    whole = train(write_recipe(tmp_path / "a", change, fixed, short, base=base_with_dropout, rows=rows))
    recipe = write_recipe(tmp_path / "b", change, fixed, short, base=base_with_dropout, rows=rows)
    interrupted(monkeypatch, recipe, 3)
    assert same_bits(train(recipe, "--resume"), whole)


@pytest.mark.slow
def test_a_mixture_of_experts_trains_and_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path
):
    """With the router loss that its config sets, which must be out of the way where samples are drawn."""
    mixture = tmp_path / "mixture"
    shutil.copytree(base, mixture)
    size = json.loads((base / "config.json").read_text())["vocab_size"]
    own = {
        "vocab_size": size,
        "output_router_logits": True,
        "router_aux_loss_coef": 0.1,
        "max_position_embeddings": 256,
    }
    tiny_model("qwen3_moe", **own).save_pretrained(mixture)
    change = {"training": {"max_steps": 5}, "optimizer": {"name": "muon"}, "checkpoint": {"every": 1}}
    whole = train(write_recipe(tmp_path / "a", change, base=mixture, rows=rows))
    assert losses_of(whole)[-1] < losses_of(whole)[0]
    recipe = write_recipe(tmp_path / "b", change, base=mixture, rows=rows)
    interrupted(monkeypatch, recipe, 3)
    assert same_bits(train(recipe, "--resume"), whole)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork: 1 case left out")
def test_five_kills_at_random_moments_lose_nothing(tmp_path: Path, base: Path, rows: Path, reference: Run):
    recipe = write_recipe(tmp_path, {"checkpoint": {"every": 1}}, base=base, rows=rows)
    moments = random.Random(0)
    killed = 0
    for _ in range(50):
        child = forked("train", str(recipe), "--resume", said=tmp_path / "said.txt")
        if killed == 5:
            break
        if killed_after(child, tmp_path / "run", steps=moments.randint(0, 2), seconds=moments.uniform(0, 0.1)):
            killed += 1
        else:  # It was at its end before the kill came: begin again, as only a kill in the middle shows anything.
            shutil.rmtree(tmp_path / "run")
    assert killed == 5
    assert os.waitpid(child, 0)[1] == 0
    run = Run.open(tmp_path / "run")
    assert losses_of(run) == losses_of(reference)
    assert same_bits(run, reference)
    assert not [path for path in run.folder.rglob(".*") if path.name != ".lock"]


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over_aloud(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    base: Path,
    rows: Path,
    reference: Run,
    capsys: pytest.CaptureFixture[str],
):
    recipe = write_recipe(tmp_path, base=base, rows=rows)
    interrupted(monkeypatch, recipe, 7)
    newest = RunPaths(tmp_path / "run").checkpoints / "step-000007" / "optimizer-00000.safetensors"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 4
    newest.write_bytes(content)
    resumed = train(recipe, "--resume")
    said = capsys.readouterr().out
    assert "damaged checkpoint" in said
    assert "resuming from" in said
    assert "step-000006" in said
    assert same_bits(resumed, reference)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork: 2 cases left out")
@pytest.mark.parametrize("room", [120_000, 900], ids=["no room for a checkpoint", "no room for a line"])
def test_a_full_disk_is_one_clear_line_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path, reference: Run, room: int
):
    recipe = write_recipe(tmp_path, base=base, rows=rows)
    interrupted(monkeypatch, recipe, 4)
    heard, tell = os.pipe()
    child = forked("train", str(recipe), "--resume", said=tell, room=room)
    os.close(tell)
    with open(heard) as pipe:
        lines = pipe.read().strip().splitlines()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2, lines
    assert [line for line in lines if line.startswith("error: ") and "--resume" in line] == lines[-1:]
    assert not list((tmp_path / "run" / "checkpoints").glob(".tmp-*"))
    resumed = train(recipe, "--resume")
    assert losses_of(resumed) == losses_of(reference)
    assert same_bits(resumed, reference)


@pytest.mark.slow
def test_resuming_a_finished_run_says_so_and_resuming_nothing_starts(
    tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = write_recipe(tmp_path, {"training": {"max_steps": 1}}, base=base, rows=rows)
    train(recipe, "--resume")
    assert "no run to resume; starting one" in capsys.readouterr().out
    train(recipe, "--resume")
    out = capsys.readouterr().out
    assert "this run is finished" in out
    assert f"talk       instil chat {tmp_path / 'run'}" in out.splitlines()


def test_other_sources_are_refused_on_resume_by_what_was_set_of_them():
    folder = Path("runs/mine")
    saved = Recipe.from_mapping({"data": {"sources": ["a.jsonl", {"path": "b.jsonl", "repeat": 2}]}})
    saved = Recipe.from_mapping(saved.model_dump(mode="json"))
    with pytest.raises(RunError) as refused:
        resumed_recipe(Recipe.from_mapping({"data": {"sources": "c.jsonl"}}), saved, folder=folder)
    assert str(refused.value) == (
        "runs/mine: data.sources is ['c.jsonl'], but the run was started with ['a.jsonl', {'path': 'b.jsonl', 'repeat': 2}], and a resumed "
        "run must keep it. Undo the change, or start another run from this one's "
        'model: **{"model.name": "runs/mine"} output=OTHER.'
    )


def test_a_resumed_run_may_prepare_its_data_elsewhere():
    saved = Recipe.from_mapping({"data": {"store": "a", "max_tokens": 9}, "training": {"seed": 1}})
    given = Recipe.from_mapping({"data": {"store": "b", "workers": 3}})
    resumed = resumed_recipe(given, saved, folder=Path("run"))
    assert (resumed.data.store, resumed.data.workers, resumed.data.max_tokens, resumed.training.seed) == ("b", 3, 9, 1)


@pytest.mark.slow
def test_a_changed_setting_is_refused_on_resume_and_a_free_one_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = write_recipe(tmp_path, base=base, rows=rows)
    interrupted(monkeypatch, recipe, 2)
    said = train_fails(recipe, "--resume", "--optimizer.lr", "1e-4", capsys=capsys)
    assert "optimizer.lr is 0.0001, but the run was started with 0.005" in said
    train(recipe, "--resume", "--checkpoint.keep-last", "1")
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) <= 2


@pytest.mark.slow
def test_a_resumed_run_replays_its_cut_unless_another_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path
):
    def cuts() -> list[int]:
        return [line["micro_batch_tokens"] for line in Run.open(tmp_path / "run").metrics() if "loss" in line]

    short = {"training": {"max_steps": 4}, "evaluate": {"every": 4, "max_new_tokens": 1}}
    recipe = write_recipe(tmp_path, short, base=base, rows=rows)
    interrupted(monkeypatch, recipe, 1)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert exit_code("train", str(recipe), "--resume", "--training.micro-batch-tokens", "60") == 143
    train(recipe, "--resume", "--training.micro-batch-tokens", "30")
    assert cuts() == [2048, 60, 30, 30]


@pytest.mark.slow
def test_changed_data_is_refused_on_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    own = tmp_path / "rows.jsonl"
    own.write_text(rows.read_text())
    recipe = write_recipe(tmp_path, base=base, rows=own)
    interrupted(monkeypatch, recipe, 2)
    own.write_text("\n".join(rows.read_text().splitlines()[:-4]) + "\n")
    assert "its data is" in train_fails(recipe, "--resume", capsys=capsys)


@pytest.mark.slow
def test_a_run_without_a_checkpoint_starts_again_with_the_account_of_the_data_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    own = tmp_path / "rows.jsonl"
    own.write_text(rows.read_text())
    recipe = write_recipe(tmp_path, {"training": {"max_steps": 2}}, base=base, rows=own)
    interrupted(monkeypatch, recipe, 1)
    for name in ("results.json", "checkpoints/step-000001/manifest.json"):
        (tmp_path / "run" / name).unlink(missing_ok=True)
    own.write_text("\n".join(rows.read_text().splitlines()[:-4]) + "\n")
    run = train(recipe, "--resume")
    assert json.loads((run.folder / "ledger.json").read_text())["rows_in"] == 32
    assert "checkpoints: no intact checkpoint; starting again from the first step" in capsys.readouterr().out


@pytest.mark.slow
def test_a_resumed_run_writes_what_it_is_made_of_where_that_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path
):
    recipe = write_recipe(tmp_path, {"training": {"max_steps": 2}}, base=base, rows=rows)
    interrupted(monkeypatch, recipe, 1)
    paths = RunPaths(tmp_path / "run")
    account, environment = (read_run_json(path) for path in (paths.ledger, paths.environment))
    paths.ledger.write_text(paths.ledger.read_text()[:-9])
    paths.environment.unlink()
    train(recipe, "--resume")
    assert read_run_json(paths.ledger) == account
    assert read_run_json(paths.environment).keys() == environment.keys()


@pytest.mark.slow
def test_a_best_checkpoint_that_is_gone_is_said_and_the_run_ends_with_the_best_from_there_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    change = {"optimizer": {"lr": 3.0}, "evaluate": {"every": 1}, "checkpoint": {"final": "best"}}
    recipe = write_recipe(tmp_path, change, {"training": {"max_steps": 5}}, base=base, rows=rows)
    interrupted(monkeypatch, recipe, 3)
    (tmp_path / "run" / "checkpoints" / "step-000001" / "state.json").write_text("{}")
    capsys.readouterr()
    run = train(recipe, "--resume")
    assert "step 1 was the best, and is lost" in capsys.readouterr().out
    later = {
        line["heldout_loss"]: line["step"] for line in run.metrics() if "heldout_loss" in line and line["step"] > 2
    }
    assert run.results["best_step"] == later[min(later)]


@pytest.mark.parametrize(
    ("before", "requested", "expected"),
    [
        ((0, 0), "auto", (2048, 0)),  # a run that starts
        ((512, 0), "auto", (512, 0)),  # resumed: as before, even if more would fit now
        ((60, 60), 60, (60, 60)),
        ((60, 60), 30, (2048, 30)),  # another request
        ((60, 60), "auto", (2048, 0)),
    ],
)
def test_micro_batches_stay_as_they_were_unless_others_are_requested(
    before: tuple[int, int], requested: Any, expected: tuple[int, int]
):
    progress = Progress(micro_batch_tokens=before[0], asked_tokens=before[1])
    progress = with_micro_batches(progress, requested=requested, planned=2048)
    assert (progress.micro_batch_tokens, progress.asked_tokens) == expected
