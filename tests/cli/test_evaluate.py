"""Claims about ``instil evaluate``, through the command line."""

from __future__ import annotations

import json
import shutil

import pytest
from tests.tiny_chat import FACTS, folders
from tests.training.command_line import exit_code


def evaluate(*words: object) -> int:
    return exit_code("evaluate", *map(str, words))


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in FACTS[:4]), encoding="utf-8")
    return path


@pytest.mark.slow
def test_the_command_writes_the_report_and_compares(rows, tmp_path, capsys):
    out = tmp_path / "report"
    assert evaluate(folders()["tuned"], "--data", rows, "--against", folders()["base"], "--out", out) == 0
    captured = capsys.readouterr()
    line, _ = [line for line in captured.out.splitlines() if line.startswith("exact_match  ")]
    assert "100.0% [51.0%, 100.0%] n=4" in line
    assert "4 / 0 / 0" in line
    assert "all 4 prompts" in captured.out
    assert "answers equal to the reference, ignoring case" in captured.out
    assert "[]" not in captured.out
    assert str(folders()["tuned"]) in captured.out
    assert json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["settings"]["seed"] == 0


@pytest.mark.slow
def test_a_limit_is_named_on_every_output(rows, tmp_path, capsys):
    out = tmp_path / "report"
    assert evaluate(folders()["tuned"], "--data", rows, "--limit", 3, "--out", out) == 0
    said = "the first 3 of 4 prompts"
    assert said in capsys.readouterr().out
    assert said in (out / "evaluation.html").read_text(encoding="utf-8")
    assert said in (out / "evaluation.md").read_text(encoding="utf-8").lower()
    saved = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert (saved["selection"], saved["num_prompts"], saved["total_prompts"]) == (said, 3, 4)


def test_json_on_standard_output_has_the_figures_without_the_answers(rows, tmp_path, capsys):
    assert evaluate(folders()["tuned"], "--data", rows, "--json", "--out", tmp_path / "report") == 0
    shown = json.loads(capsys.readouterr().out)
    assert "rows" not in shown
    assert shown["model"]["figures"]["exact_match"]["exact_match"]["n"] == 4


def test_a_runs_training_data_is_compared_with(rows, tmp_path, capsys):
    folder = shutil.copytree(folders()["run"], tmp_path / "run")
    (folder / "recipe.yaml").write_text(f"data:\n  sources: [{rows}]\n  heldout_share: 0\n", encoding="utf-8")
    assert evaluate(folder, "--data", rows, "--task", "exact_match", "numeric") == 0
    assert "Of 4 prompts 100.0% occur word for word in the 4 training conversations" in capsys.readouterr().out
    assert (folder / "evaluation" / "evaluation.html").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "no data to measure on"),
        (["--data", "nothing.jsonl"], "no such file"),
        (["--data", "ROWS", "--task", "exactmatch"], "did you mean 'exact_match'"),
        (["--data", "ROWS", "--task", "choice"], "task choice fits no prompt"),
        (["--data", "ROWS", "--against", "./nowhere/at/all"], "no such model folder"),
        (["--data", "ROWS", "--task", "json", "--schema", "nothing.json"], "Expected a JSON schema"),
    ],
)
def test_bad_input_is_one_line_and_status_2(words, reason, rows, tmp_path, capsys):
    out = tmp_path / "report"
    options = [str(rows) if word == "ROWS" else word for word in words]
    assert evaluate(folders()["tuned"], "--out", out, *options) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert reason in error
    assert not out.exists()
