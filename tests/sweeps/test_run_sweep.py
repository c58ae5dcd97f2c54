"""Claims about sweeps: each run gives the bits that it gives alone, failures do not end it, and it goes on after a stop."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal

import pytest
from tests.sweeps.conftest import RATES
from tests.training.command_line import exit_code, forked, same_bits, train_fails, without_times, write_recipe
from tests.training.stops import wait_for_steps

import instil
from instil.files import locked
from instil.sweeps.record import Sweep
from instil.training.records.run_folder import Run


def lines_of(text):
    return [line.strip() for line in text.splitlines()]


@pytest.mark.long
@pytest.mark.slow
def test_a_run_of_a_sweep_gives_the_bits_that_it_gives_alone(swept, reference):
    """Also after a run that diverged in the same process."""
    names = [run.name for run in swept.sweep.runs]
    assert names == ["lr-1e30", "lr-5e-3", "lr-1e-4"]
    run = Run.open(swept.sweep.runs[1].folder)
    assert same_bits(run, reference)
    assert without_times(run) == without_times(reference)
    saved = instil.Recipe.load_saved(run.folder)
    assert saved.override({"output": "x"}) == instil.Recipe.load_saved(reference.folder).override({"output": "x"})


@pytest.mark.slow
def test_a_run_that_diverges_is_recorded_and_the_others_go_on(swept):
    assert swept.status == 1
    failed, *others = swept.sweep.runs
    assert (failed.state, failed.error_kind) == ("failed", "NonFiniteError")
    assert failed.error.startswith("step 2: the gradient's norm is nan")
    assert [run.state for run in others] == ["finished", "finished"]
    assert any(line.startswith("error: lr-1e30") for line in lines_of(swept.out + swept.err))


@pytest.mark.slow
def test_the_comparison_is_on_the_screen_and_in_files(swept):
    sweep, folder = swept.sweep, swept.sweep.folder
    assert sweep.best == min(sweep.runs[1:], key=lambda run: run.heldout_loss)
    assert sweep.best.value == sweep.best.heldout_loss == Run.open(sweep.best.folder).results["heldout_loss"]
    table = list(csv.DictReader((folder / "comparison.csv").read_text().splitlines()))
    assert [(row["run"], float(row["optimizer.lr"]), row["state"]) for row in table] == [
        ("lr-1e30", 1e30, "failed"), ("lr-5e-3", 5e-3, "finished"), ("lr-1e-4", 1e-4, "finished"),
    ]  # fmt: skip
    assert [row["best"] for row in table] == ["false", "true", "false"]
    assert (folder / "losses.png").read_bytes().startswith(b"\x89PNG")
    screen = lines_of(swept.out)
    ranked = [line.split()[0] for line in screen[screen.index("comparison: 3 runs, 2 finished, 1 failed") + 2 :][:3]]
    assert ranked == ["lr-5e-3", "lr-1e-4", "lr-1e30"]
    assert f"try it         instil chat {sweep.best.folder}".split() in [line.split() for line in screen]
    assert "run 2 of 3: lr-5e-3" in screen
    third = screen[screen.index("run 3 of 3: lr-1e-4") :]
    assert "Rows" not in third  # lines of a card that an earlier run had are left out, and so are their headings
    talk = third.index(f"talk       instil chat {folder / 'lr-1e-4'}")
    assert third[talk - 2 : talk] == ["", "Next"]
    assert screen.count("Next") == 2
    assert [record["run"] for record in sweep.table] == ["lr-1e30", "lr-5e-3", "lr-1e-4"]
    assert "lr-5e-3 (best)" in sweep._repr_html_()
    assert "best lr-5e-3" in repr(sweep)


def test_the_runs_share_the_prepared_data(swept, rows):
    stores = {json.loads((run.folder / "ledger.json").read_text())["fingerprint"] for run in swept.sweep.runs}
    assert len(stores) == 1


@pytest.mark.slow
def test_an_existing_sweep_is_not_overwritten_and_resuming_a_finished_one_trains_nothing(swept, capsys):
    error = train_fails(swept.recipe, "--optimizer.lr", RATES, capsys=capsys)
    assert "the sweep's folder exists" in error
    times = {run.name: (run.folder / "metrics.jsonl").stat().st_mtime_ns for run in swept.sweep.runs}
    # Without its values: the folder knows them. The run that diverged would diverge again, so it is not tried.
    assert exit_code("train", str(swept.recipe), "--resume") == 1
    assert times == {run.name: (run.folder / "metrics.jsonl").stat().st_mtime_ns for run in swept.sweep.runs}
    assert "run 1 of 3" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_resumed_sweep_keeps_its_values_and_may_get_more(swept, tmp_path, capsys):
    folder = tmp_path / "copy" / "run"
    shutil.copytree(swept.sweep.folder, folder)
    recipe = tmp_path / "copy" / "recipe.yaml"
    recipe.write_text(swept.recipe.read_text().replace(str(swept.sweep.folder), str(folder)))
    error = train_fails(recipe, "--resume", "--optimizer.lr", "5e-3,1e-4", capsys=capsys)
    assert "its run lr-1e30 is not among the runs now" in error
    error = train_fails(recipe, "--resume", "--optimizer.lr", RATES, "--training.batch-size", "6", capsys=capsys)
    assert "training.batch_size is 6, but the run was started with 5" in error
    assert exit_code("train", str(recipe), "--resume", "--optimizer.lr", f"{RATES},2e-3", "--best-by", "loss") == 1
    sweep = Sweep.open(folder)
    assert [run.state for run in sweep.runs] == ["failed", "finished", "finished", "finished"]
    assert sweep.best.value == sweep.best.loss == min(run.loss for run in sweep.runs[1:])


@pytest.mark.slow
def test_a_run_whose_folder_was_removed_is_trained_again_and_a_damaged_one_is_named(swept, tmp_path, capsys):
    folder = tmp_path / "copy" / "run"
    shutil.copytree(swept.sweep.folder, folder)
    recipe = tmp_path / "copy" / "recipe.yaml"
    recipe.write_text(swept.recipe.read_text().replace(str(swept.sweep.folder), str(folder)))
    shutil.rmtree(folder / "lr-5e-3")
    assert exit_code("train", str(recipe), "--resume") == 1
    again = Sweep.open(folder)
    assert [run.state for run in again.runs] == ["failed", "finished", "finished"]
    assert same_bits(Run.open(again.runs[1].folder), Run.open(swept.sweep.runs[1].folder))
    (folder / "lr-5e-3" / "results.json").write_text("{")
    assert "results.json" in train_fails(recipe, "--resume", capsys=capsys)
    (folder / "sweep.json").write_text("[]")
    assert "sweep.json: damaged" in train_fails(recipe, "--resume", capsys=capsys)


def test_a_sweep_in_place_of_a_model_names_its_best_run(swept):
    with pytest.raises(instil.ModelError, match=r"a sweep of several runs.* the best one is .*run/lr-5e-3\. Name it"):
        instil.load_model(swept.sweep.folder)


def test_two_processes_do_not_run_one_sweep(swept, capsys):
    with locked(swept.sweep.folder):
        assert "another run (process" in train_fails(swept.recipe, "--resume", capsys=capsys)


def test_prepare_warns_of_data_that_only_runs_have(base, rows, tmp_path, capsys):
    recipe = write_recipe(tmp_path, {"sweep": {"data.max_tokens": [64, 128]}}, base=base, rows=rows)
    assert exit_code("prepare", str(recipe)) == 0
    assert "the recipe sweeps data.max_tokens, and this is the data without that" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_ends_a_sweep_and_resume_continues_it(base, rows, tmp_path, swept, capsys):
    recipe = write_recipe(tmp_path, {"sweep": {"optimizer.lr": [1e-4, 5e-3]}}, base=base, rows=rows)
    child = forked("train", str(recipe), said=tmp_path / "said.txt")
    wait_for_steps(tmp_path / "run" / "lr-5e-3")
    os.kill(child, signal.SIGINT)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    first, second = Sweep.open(tmp_path / "run").runs
    said = (tmp_path / "said.txt").read_text()
    assert (first.state, second.state) == ("finished", "stopped"), said
    assert f"Continue it with instil train {tmp_path / 'run' / 'recipe.yaml'} --resume" in said
    written = (first.folder / "results.json").stat().st_mtime_ns
    assert exit_code("train", str(recipe), "--resume") == 0
    sweep = Sweep.open(tmp_path / "run")
    assert sweep.finished
    assert written == (first.folder / "results.json").stat().st_mtime_ns
    assert same_bits(Run.open(sweep.runs[1].folder), Run.open(swept.sweep.runs[1].folder))


@pytest.mark.slow
def test_what_is_wrong_in_the_last_run_is_found_before_the_first_and_leaves_nothing(base, rows, tmp_path, capsys):
    recipe = write_recipe(tmp_path, base=base, rows=rows)
    for words, found in (
        (["--adapter.kind", "lora", "--adapter.targets", '[["q_proj"], ["z_proj"]]'], "z_proj"),
        (["--optimizer.lr", "1e-4,1e-3", "--best-by", "numerik"], "found 'numerik' (did you mean 'numeric'?)"),
        (["--optimizer.lr", "1e-4,1e-3", "--data.heldout-share", "0"], "no row is held out"),
        (["--output", str(tmp_path / "run"), "--output", "b"], "output cannot be swept"),
        (["--optimizer.lr", "1e-5..1e-3"], "--search optuna --trials"),
        (["--trials", "3"], "found no setting with several values"),
    ):
        assert found in train_fails(recipe, *words, capsys=capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_and_a_sweep_do_not_take_each_others_folder(reference, swept, capsys):
    recipe = reference.folder.parent / "recipe.yaml"
    for words in ([], ["--resume"]):
        error = train_fails(recipe, "--optimizer.lr", "1e-4,1e-3", *words, capsys=capsys)
        assert "exists" in error or "holds a run. Expected a sweep to resume" in error


@pytest.mark.slow
@pytest.mark.long
def test_runs_can_be_compared_by_a_task_which_is_then_measured(base, rows, tmp_path):
    path = write_recipe(tmp_path, {"training": {"max_steps": 2}}, base=base, rows=rows)
    sweep = instil.sweep(path, {"training.seed": [1, 2]}, best_by="exact_match", quiet=True)
    assert sweep.best_by == "exact_match.exact_match"
    assert sweep.direction == "max"
    assert "<th>exact_match</th>" in sweep._repr_html_()
    assert [run.value for run in sweep.runs] == [run.tasks["exact_match.exact_match"] for run in sweep.runs]
    assert sweep.best == sweep.runs[0], "of equal runs the first one is the best"
    with pytest.raises(instil.RecipeError, match=r"has no figure behaviour.nothing. Its figures: "):
        instil.sweep(
            path, {"training.seed": [1, 2]}, best_by="behaviour.nothing", quiet=True, output=str(tmp_path / "other")
        )


@pytest.mark.long
def test_each_run_of_a_sweep_may_have_several_processes(base, rows, tmp_path):
    two = {"parallel": {"processes": 2}, "training": {"max_steps": 2}}
    recipe = write_recipe(tmp_path, two, base=base, rows=rows)
    assert exit_code("train", str(recipe), "--training.seed", "1,2") == 0
    assert [run.state for run in Sweep.open(tmp_path / "run").runs] == ["finished", "finished"]
