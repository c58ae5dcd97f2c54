"""Sweeps of runs that learn from preferences: what they are compared by."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from tests.training.command_line import exit_code, train_fails, write_recipe
from tests.training.pairs import SHORT, make_pairs

from instil.sweeps.record import Sweep, SweepPaths

DPO: dict[str, Any] = {"training": {**SHORT["training"], "objective": "dpo"}}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl")


@pytest.mark.long
@pytest.mark.slow
def test_the_best_run_wins_most_held_out_pairs(
    tmp_path: Path, base: Path, pairs: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = write_recipe(tmp_path, SHORT, DPO, base=base, rows=pairs)
    words = ("--preference.beta", "0.1,2", "--best-by", "heldout_accuracy")
    assert exit_code("train", str(recipe), *words) == 0
    out = capsys.readouterr().out
    sweep = Sweep.open(tmp_path / "run")
    values = []
    for run in sweep.runs:
        lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
        values.append([line["heldout_accuracy"] for line in lines if "heldout_loss" in line][-1])
    assert [run.value for run in sweep.runs] == values == [run.heldout_accuracy for run in sweep.runs]
    assert sweep.direction == "max"
    assert sweep.best is not None
    assert sweep.best.value == max(values)
    assert f"best: {sweep.best.folder}, with the highest heldout_accuracy" in " ".join(out.split())
    with SweepPaths(sweep.folder).table.open() as file:
        assert [float(row["heldout_accuracy"]) for row in csv.DictReader(file)] == values


@pytest.mark.slow
def test_the_share_of_pairs_won_stands_beside_the_loss(
    tmp_path: Path, base: Path, pairs: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = write_recipe(tmp_path, SHORT, DPO, base=base, rows=pairs)
    assert exit_code("train", str(recipe), "--optimizer.lr", "2e-3,1e-4") == 0
    head = next(line for line in capsys.readouterr().out.splitlines() if "held-out loss" in line and "in steps" in line)
    assert "won" in head
    sweep = Sweep.open(tmp_path / "run")
    assert sweep.best_by == "heldout_loss"
    assert [row["heldout_accuracy"] for row in sweep.table] == [run.heldout_accuracy for run in sweep.runs]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        (DPO, ("--preference.beta", "0.1,0.5"), "preference.beta changes what the loss measures"),
        ({}, ("--training.objective", "dpo,ipo", "--best-by", "loss"), "training.objective changes what the loss"),
        (
            {},
            ("--optimizer.lr", "1e-3,1e-4", "--best-by", "heldout_accuracy"),
            "with training.objective: sft nothing is",
        ),
        (
            {**DPO, "data": {"heldout_share": 0}},
            ("--optimizer.lr", "1e-3,1e-4", "--best-by", "heldout_accuracy"),
            "found heldout_accuracy, but no row is held out",
        ),
        (DPO, ("--optimizer.lr", "1e-3,1e-4", "--best-by", "heldout_acuracy"), "did you mean 'heldout_accuracy'"),
    ],
)
def test_what_does_not_compare_runs_is_refused(
    tmp_path: Path,
    base: Path,
    pairs: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    words: tuple[str, ...],
    said: str,
):
    recipe = write_recipe(tmp_path, change, base=base, rows=pairs)
    assert said in train_fails(recipe, *words, capsys=capsys)
    assert not (tmp_path / "run").exists()
