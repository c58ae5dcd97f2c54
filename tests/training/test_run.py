from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.model.tiny import tiny_model
from tests.training.command_line import (
    exit_code,
    forked,
    losses_of,
    make_base,
    make_rows,
    same_bits,
    train,
    train_fails,
    weights_of,
    write_recipe,
)

from instil.errors import RunError
from instil.files import locked
from instil.recipe import Recipe
from instil.training.records.run_folder import Run, RunPaths, read_run_json
from instil.training.resume import resumed_recipe

LORA = {"adapter": {"kind": "lora", "rank": 4, "dropout": 0.2}}
NOISE = {"training": {"neftune_alpha": 5.0}}


def test_the_run_folder_holds_what_the_design_lists(reference: Run):
    names = {path.name for path in reference.folder.iterdir()}
    assert names == {
        "recipe.yaml", "environment.json", "ledger.json", "metrics.jsonl", "loss.png", "samples.jsonl", "checkpoints",
        "model", "results.json", ".lock",
    }  # fmt: skip
    assert Recipe.load(reference.folder / "recipe.yaml").optimizer.lr == 5e-3
    assert (reference.folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    ledger = json.loads((reference.folder / "ledger.json").read_text())
    assert ledger["rows_in"] == 36
    environment = json.loads((reference.folder / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__
    assert reference.results["steps"] == len(losses_of(reference)) == 12


def test_metrics_have_one_line_a_step_with_all_fields(reference: Run):
    steps = [line for line in reference.metrics() if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, len(steps) + 1))
    for line in steps:
        assert {"loss", "learning_rate", "gradient_norm", "tokens", "trained_tokens", "seconds"} <= line.keys()
        assert line["seconds"].keys() == {"data", "forward", "backward", "update", "total"}
        assert 0 < line["trained_tokens"] < line["tokens"]
    evaluated = [line["step"] for line in reference.metrics() if "heldout_loss" in line]
    assert evaluated == [0, 4, 8, 12]


def test_the_model_learns(reference: Run):
    losses = losses_of(reference)
    assert losses[-1] < losses[0] - 1


def test_the_model_loads_in_plain_transformers_with_template_and_stop_token(reference: Run):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(reference.model_folder)
    tokenizer = AutoTokenizer.from_pretrained(reference.model_folder)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert asked == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    ends = model.generation_config.eos_token_id
    assert stop in (ends if isinstance(ends, list) else [ends])
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token_id not in (None, stop)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


def test_samples_are_drawn_at_each_evaluation(reference: Run):
    lines = [json.loads(line) for line in (reference.folder / "samples.jsonl").read_text().splitlines()]
    assert sorted({line["step"] for line in lines}) == [0, 4, 8, 12]
    assert len(lines) == 12
    assert all({"prompt", "answer", "finish_reason"} <= line.keys() for line in lines)


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGTERM) -> None:
    """Send this process a signal while a step is computed."""
    from instil.training import loop

    take_step = loop.take_step

    def and_signal(learner: Any, members: Any, **settings: Any) -> Any:
        if members.step == step:
            os.kill(os.getpid(), number)
        return take_step(learner, members, **settings)

    monkeypatch.setattr(loop, "take_step", and_signal)


def interrupted(monkeypatch: pytest.MonkeyPatch, recipe: Path, step: int, number: int = signal.SIGTERM) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, step, number)
        assert exit_code("train", str(recipe)) == 128 + number


@pytest.mark.parametrize("step", [5, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, 2, 8, 11))])
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


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["heldout_loss", "take_step"])
def test_a_stop_waits_for_no_evaluation_that_has_not_begun_and_for_no_other_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path, reference: Run, moment: str
):
    """A signal in step 4, or in the evaluation that follows it: either way step 4 is the last one, and its evaluation is made once."""
    from instil.training import loop

    recipe = write_recipe(tmp_path, base=base, rows=rows)
    with monkeypatch.context() as patch:
        if moment == "take_step":
            stop_after(patch, 4)
        else:
            measure, calls = loop.heldout_loss, []

            def and_signal(*given: Any, **settings: Any) -> Any:
                calls.append(given)
                if len(calls) == 2:
                    os.kill(os.getpid(), signal.SIGTERM)
                return measure(*given, **settings)

            patch.setattr(loop, "heldout_loss", and_signal)
        assert exit_code("train", str(recipe)) == 143
    stopped = Run.open(tmp_path / "run")
    assert len(losses_of(stopped)) == 4
    assert [line["step"] for line in stopped.metrics() if "heldout_loss" in line] == (
        [0] if moment == "take_step" else [0, 4]
    )
    resumed = train(recipe, "--resume")
    assert without_times(resumed) == without_times(reference)
    assert (resumed.results["best_step"], resumed.results["steps"]) == (reference.results["best_step"], 12)
    assert same_bits(resumed, reference)


def without_times(run: Run) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in line.items() if key not in ("seconds", "memory_mb")} for line in run.metrics()
    ]


@pytest.mark.parametrize("change", [LORA | NOISE, NOISE | {"optimizer": {"name": "muon"}}], ids=["lora", "muon"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
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
    import shutil

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


def test_ctrl_c_says_where_it_saved_and_a_second_one_stops_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = write_recipe(tmp_path, base=base, rows=rows)
    interrupted(monkeypatch, recipe, 3, signal.SIGINT)
    said = capsys.readouterr().out
    assert "SIGINT: finishing this step and saving" in said
    assert "saved in" in said
    assert "step-000003" in said

    def twice(learner: Any, members: Any, **settings: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("instil.training.loop.take_step", twice)
    assert exit_code("train", str(recipe), "--resume") == 130
    assert capsys.readouterr().err.splitlines()[-1] == "error: stopped by Ctrl-C"


@pytest.mark.parametrize(("number", "said"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_a_signal_before_the_first_step_stops_at_once_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    base: Path,
    rows: Path,
    capsys: pytest.CaptureFixture[str],
    number: int,
    said: str,
):
    monkeypatch.setattr("instil.training.run.assemble", lambda *given, **settings: os.kill(os.getpid(), number))
    assert exit_code("train", str(write_recipe(tmp_path, base=base, rows=rows))) == 128 + number
    assert capsys.readouterr().err == f"error: stopped by {said}\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork: 1 case left out")
def test_five_kills_at_random_moments_lose_nothing(tmp_path: Path, base: Path, rows: Path, reference: Run):
    def start(recipe: Path) -> int:
        return forked("train", str(recipe), "--resume", said=tmp_path / "said.txt")

    recipe = write_recipe(tmp_path, {"checkpoint": {"every": 1}}, base=base, rows=rows)
    moments = random.Random(0)
    began = time.monotonic()
    child = start(write_recipe(tmp_path / "timed", {"checkpoint": {"every": 1}}, base=base, rows=rows))
    assert os.waitpid(child, 0)[1] == 0
    length = time.monotonic() - began
    killed = 0
    for _ in range(5):
        child = start(recipe)
        time.sleep(moments.uniform(0.1, 0.8) * length)
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert killed
    child = start(recipe)
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


def test_resuming_a_finished_run_says_so_and_resuming_nothing_starts(
    tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = write_recipe(tmp_path, {"training": {"max_steps": 1}}, base=base, rows=rows)
    train(recipe, "--resume")
    assert "no run to resume; starting one" in capsys.readouterr().out
    train(recipe, "--resume")
    assert "this run is finished" in capsys.readouterr().out


def test_other_sources_are_refused_on_resume_by_what_was_set_of_them():
    folder = Path("runs/mine")
    saved = Recipe.from_mapping({"data": {"sources": ["a.jsonl", {"path": "b.jsonl", "repeat": 2}]}})
    saved = Recipe.from_mapping(saved.model_dump(mode="json"))
    with pytest.raises(RunError) as refused:
        resumed_recipe(Recipe.from_mapping({"data": {"sources": "c.jsonl"}}), saved, folder=folder)
    assert str(refused.value) == (
        "runs/mine: data.sources is ['c.jsonl'], but the run was started with ['a.jsonl', {'path': 'b.jsonl', 'repeat': 2}], and a resumed "
        "run must keep it. Undo the change, or start another run from this one's model: --model.name runs/mine --output OTHER"
    )


def test_the_last_line_on_heldout_rows_is_what_results_say(
    tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    short = {"training": {"max_steps": 2}, "evaluate": {"every": 2, "max_new_tokens": 1}}
    run = train(write_recipe(tmp_path, short, base=base, rows=rows))
    first = next(line["heldout_loss"] for line in run.metrics() if "heldout_loss" in line)
    last = run.results["heldout_loss"]
    assert f"held-out   loss {first:.4f} when first measured, {last:.4f} at the end" in capsys.readouterr().out


def test_an_existing_run_folder_is_refused(tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]):
    recipe = write_recipe(tmp_path, base=base, rows=rows)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert "the run folder exists. Expected a new one. Continue it with --resume" in train_fails(recipe, capsys=capsys)
    assert "not a run folder" in train_fails(recipe, "--resume", capsys=capsys)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("output", "reason"),
    [("file", "Not a directory"), ("file/run", "Not a directory"), ("n" * 300, "File name too long"), ("loop", "Too many levels")],
)  # fmt: skip
def test_a_run_folder_that_cannot_be_is_one_line(
    tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str], output: str, reason: str
):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    recipe = write_recipe(tmp_path, {"output": str(tmp_path / output)}, base=base, rows=rows)
    assert reason in train_fails(recipe, capsys=capsys)


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


def test_two_runs_into_one_folder_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = write_recipe(tmp_path, base=base, rows=rows)
    interrupted(monkeypatch, recipe, 2)
    with locked(tmp_path / "run"):
        assert "another run (process" in train_fails(recipe, "--resume", capsys=capsys)


def test_the_micro_batch_size_changes_nothing(tmp_path: Path, base: Path, rows: Path, reference: Run):
    """Other sizes: `test_demo_equivalences`."""
    run = train(write_recipe(tmp_path, {"training": {"micro_batch_tokens": 100}}, base=base, rows=rows))
    assert losses_of(run) == pytest.approx(losses_of(reference), abs=1e-4)
    assert losses_of(run)[:3] == pytest.approx(losses_of(reference)[:3], abs=1e-5)
    assert run.results["heldout_loss"] == pytest.approx(reference.results["heldout_loss"], abs=1e-4)


def test_lora_writes_adapter_and_merged_model(tmp_path: Path, base: Path, rows: Path):
    run = train(write_recipe(tmp_path, LORA, {"training": {"max_steps": 6}}, base=base, rows=rows))
    assert (run.folder / "adapter" / "adapter_model.safetensors").exists()
    config = json.loads((run.folder / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base.resolve())
    merged = weights_of(run)
    assert not [name for name in merged if "lora" in name]
    from safetensors.torch import load_file

    before = load_file(base / "model.safetensors")
    moved = [name for name, weight in before.items() if "proj" in name and not torch.equal(weight, merged[name])]
    assert len(moved) == 14
    assert torch.equal(before["model.norm.weight"], merged["model.norm.weight"])


@pytest.mark.slow
@pytest.mark.parametrize("named", ["adapter.resume_from", "model.name"])
def test_an_adapter_goes_on_in_another_run(tmp_path: Path, base: Path, rows: Path, named: str):
    short = {"training": {"max_steps": 3}, "evaluate": {"every": 3, "max_new_tokens": 2}}
    first = train(write_recipe(tmp_path / "a", LORA, short, base=base, rows=rows))
    adapter = str(first.folder / "adapter")
    onward = {"adapter": {"resume_from": adapter}} if named == "adapter.resume_from" else {"model": {"name": adapter}}
    second = train(write_recipe(tmp_path / "b", LORA, short, onward, base=base, rows=rows))
    heldout = [line["heldout_loss"] for line in second.metrics() if "heldout_loss" in line]
    assert heldout[0] == pytest.approx(first.results["heldout_loss"], abs=1e-5)
    assert heldout[-1] < heldout[0]
    assert not same_bits(first, second)


def test_early_stopping_and_best_model(tmp_path: Path, base: Path, rows: Path):
    change = {
        "optimizer": {"lr": 3.0},
        "evaluate": {"every": 1, "patience": 2, "max_new_tokens": 2},
        "checkpoint": {"final": "best", "every": 4},
        "training": {"max_steps": 40},
    }
    run = train(write_recipe(tmp_path, change, base=base, rows=rows))
    assert run.finished
    assert run.results["steps"] < 40
    best = min(
        (line["heldout_loss"], line["step"]) for line in run.metrics() if line["step"] and "heldout_loss" in line
    )
    assert (run.results["best_heldout_loss"], run.results["best_step"]) == best
    assert run.results["steps"] == run.results["best_step"] + 2
    from instil.training.checkpoints.checkpoint import open_checkpoint, step_folder

    kept = open_checkpoint(step_folder(run.folder / "checkpoints", run.results["best_step"]))
    name = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(kept.read("weights", name), weights_of(run)[name])


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


def test_tasks_are_measured_at_each_evaluation(tmp_path: Path, base: Path, rows: Path):
    change = {"evaluate": {"tasks": ["exact_match"], "every": 2}, "training": {"max_steps": 2}}
    run = train(write_recipe(tmp_path, change, base=base, rows=rows))
    measured = [line for line in run.metrics() if "tasks" in line]
    assert [line["step"] for line in measured] == [0, 2]
    assert all(0 <= figure["value"] <= 1 for line in measured for figure in line["tasks"].values())
    assert any(name.startswith("exact_match.") for name in measured[0]["tasks"])


def test_a_rate_that_blows_up_stops_and_names_rows(
    tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    change = {"optimizer": {"lr": 1e30, "clip": None}, "training": {"max_steps": 20}}
    said = train_fails(write_recipe(tmp_path, change, base=base, rows=rows), capsys=capsys)
    assert "rows.jsonl:" in said
    assert "The weights have not moved" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": {"sources": ["nowhere.jsonl"]}}, "nowhere.jsonl"),
        ({"data": {"sources": []}}, "data.sources"),
        ({"model": {"name": "no/such/folder/here"}}, "no/such/folder/here"),
        ({"model": {"template": "chatmll"}}, "chatml"),
        ({"evaluate": {"tasks": ["exact_mach"]}}, "exact_match"),
        ({"training": {"freeze": ["nothing.like.this"]}}, "nothing.like.this"),
        ({"training": {"precision": "fp16"}, "device": "cpu"}, "training.precision"),
        ({"adapter": {"kind": "lora", "targets": ["q_prj"]}}, "q_prj"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], said: str
):
    recipe = write_recipe(tmp_path, change, base=base, rows=rows)
    assert said in train_fails(recipe, capsys=capsys)
    assert not (tmp_path / "run").exists()


def test_the_day_that_a_template_prints_is_pinned_for_preparing_again_and_for_serving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    import datetime

    from instil.conversation import Conversation, Message
    from instil.generation.engine import Engine
    from instil.preparation import chat_setup

    class LeapDay(datetime.date):
        @classmethod
        def today(cls) -> datetime.date:
            return datetime.date(2024, 2, 29)

    template = (
        "{{ strftime_now('%d %B %Y') }}\n{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    base, rows = make_base(tmp_path / "base"), make_rows(tmp_path / "rows.jsonl", count=8)
    changes = {"model": {"template": template}, "training": {"max_steps": 1}}
    recipe = write_recipe(tmp_path / "one", changes, base=base, rows=rows)
    monkeypatch.setattr(chat_setup, "date", LeapDay)
    run = train(recipe)
    monkeypatch.undo()
    assert Recipe.load(run.folder / "recipe.yaml").data.date == "2024-02-29"
    capsys.readouterr()
    assert exit_code("prepare", str(run.folder / "recipe.yaml")) == 0
    assert "was there already" in capsys.readouterr().out
    engine = Engine.load(run.folder)
    served = engine.decode(engine.prompt(Conversation((Message("user", "hi"),))))
    assert served.startswith("29 February 2024\n")
