from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from tests.training.command_line import (
    exit_code,
    losses_of,
    train_fails,
    write_recipe,
)
from tests.training.stops import interrupted

from instil.files import locked
from instil.recipe import Recipe
from instil.training.records.run_folder import Run, check_output


def test_the_run_folder_holds_what_the_design_lists(reference: Run):
    names = {path.name for path in reference.folder.iterdir()}
    assert names == {
        "card.json", "recipe.yaml", "environment.json", "ledger.json", "metrics.jsonl", "loss.png", "samples.jsonl", "checkpoints",
        "model", "results.json", ".lock",
    }  # fmt: skip
    assert Recipe.load(reference.folder / "recipe.yaml").optimizer.lr == 5e-3
    assert (reference.folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    ledger = json.loads((reference.folder / "ledger.json").read_text())
    assert ledger["rows_in"] == 36
    environment = json.loads((reference.folder / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__
    assert reference.results["steps"] == len(losses_of(reference)) == 12


@pytest.mark.slow
def test_an_existing_run_folder_is_refused(tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]):
    recipe = write_recipe(tmp_path, base=base, rows=rows)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert f"Continue it with instil train {tmp_path / 'run' / 'recipe.yaml'} --resume, name" in train_fails(
        recipe, capsys=capsys
    )
    assert "not a run folder" in train_fails(recipe, "--resume", capsys=capsys)
    # A mistake in the settings comes first: with another folder it would come next.
    for words, reason in (
        (["--model.quantize", "4bit"], "quantised weights cannot train"),
        (["--model.name", str(tmp_path / "none")], "no such model folder"),
        (["--data.sources", str(tmp_path / "none.jsonl")], "no such file"),
        (["--evaluate.tasks", "numerics"], "did you mean 'numeric'?"),
    ):
        said = train_fails(recipe, *words, capsys=capsys)
        assert reason in said, words
        assert "run folder exists" not in said
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


def sealed_folder(tmp_path: Path) -> Path:
    """Return a folder that nothing can be made in: of the system, or without the right to write."""
    if os.geteuid() == 0:
        return Path("/proc")
    sealed = tmp_path / "sealed"
    sealed.mkdir(mode=0o555)
    return sealed


@pytest.mark.parametrize("verb", ["train", "plan"])
@pytest.mark.parametrize("below", ["run", "runs/of/today"])
def test_an_output_that_cannot_be_written_is_refused_before_the_data_is_prepared(
    tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str], verb: str, below: str
):
    recipe = write_recipe(tmp_path, {"output": str(sealed_folder(tmp_path) / below)}, base=base, rows=rows)
    assert exit_code(verb, str(recipe)) == 2
    out, error = capsys.readouterr()
    assert "cannot be written to" in error
    assert "Set another output" in error
    assert "Traceback" not in error
    assert "tokens" not in out


@pytest.mark.parametrize("output", ["file/run", "n" * 300])
def test_plan_refuses_an_output_that_cannot_be(
    tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str], output: str
):
    (tmp_path / "file").write_text("")
    recipe = write_recipe(tmp_path, {"output": str(tmp_path / output)}, base=base, rows=rows)
    assert exit_code("plan", str(recipe)) == 2
    assert "none can be made there" in capsys.readouterr().err


def test_the_look_at_the_output_leaves_nothing(tmp_path: Path):
    check_output(tmp_path / "new" / "run", resume=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_two_runs_into_one_folder_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = write_recipe(tmp_path, base=base, rows=rows)
    interrupted(monkeypatch, recipe, 2)
    with locked(tmp_path / "run"):
        assert "another run (process" in train_fails(recipe, "--resume", capsys=capsys)
