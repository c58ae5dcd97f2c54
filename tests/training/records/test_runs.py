from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.training.command_line import exit_code, losses_of, train, write_recipe

from instil.errors import RunError
from instil.recipe import Recipe
from instil.training.records.plots import shared_figures
from instil.training.records.run_folder import Run
from instil.training.records.runs import differences, differing_settings, find_runs, settings_of, summarise


def test_runs_are_listed_and_compared_from_their_folders(
    tmp_path: Path, base: Path, rows: Path, reference: Run, capsys: pytest.CaptureFixture[str]
):
    other = train(write_recipe(tmp_path, {"training": {"max_steps": 1, "seed": 9}}, base=base, rows=rows))
    assert find_runs(reference.folder.parent) == [reference.folder]
    found = summarise(reference.folder)
    assert (found.steps, found.state) == (len(losses_of(reference)), "finished")
    assert found.heldout_loss == reference.results["heldout_loss"]
    changed = {name: (a, b) for name, a, b in differing_settings(reference.folder, other.folder)}
    assert changed["training.seed"] == (1, 9)
    assert "optimizer.lr" not in changed
    capsys.readouterr()
    assert exit_code("runs", str(reference.folder.parent)) == 0
    out = capsys.readouterr().out
    assert "finished" in out
    assert " kB" in out
    picture = tmp_path / "both.png"
    assert exit_code("runs", "compare", str(reference.folder), str(other.folder), "--plot", str(picture)) == 0
    assert "training.seed" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")


def make_run(folder: Path, *, lr: float, exact: float) -> Path:
    """A run folder as far as listing and comparing read it."""
    (folder / "evaluation").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(f"model: {{name: demo}}\noptimizer: {{lr: {lr}}}\n", encoding="utf-8")
    (folder / "environment.json").write_text("{}", encoding="utf-8")
    figure = {"value": exact, "low": exact - 0.1, "high": exact + 0.1, "n": 50}
    found = {
        "model": {"figures": {"exact_match": {"exact_match": figure}, "none": {"empty": figure | {"value": None}}}}
    }
    (folder / "evaluation" / "evaluation.json").write_text(json.dumps(found), encoding="utf-8")
    return folder


def test_the_table_says_what_differs_and_what_the_evaluation_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    runs = [make_run(tmp_path / name, lr=lr, exact=exact) for name, lr, exact in (("a", 0.1, 0.5), ("b", 0.2, 0.75))]
    assert exit_code("runs", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "optimizer.lr 0.1" in out
    assert "optimizer.lr 0.2" in out
    assert "exact_match.exact_match 0.75 n=50" in out
    assert differences([runs[0], runs[0]]) == [{}, {}]
    assert shared_figures([summarise(run).figures for run in runs]) == ["exact_match.exact_match"]
    assert exit_code("runs", "compare", *map(str, runs), "--plot", str(tmp_path / "both.png")) == 0
    assert "0.75 [0.65, 0.85] n=50" in capsys.readouterr().out
    assert (tmp_path / "both.png").exists()


def test_sources_that_differ_are_shown_by_what_was_set_of_them(tmp_path: Path):
    runs = [make_run(tmp_path / name, lr=0.1, exact=0.5) for name in "ab"]
    for run, sources in zip(runs, (["a.jsonl"], [{"path": "b.jsonl", "repeat": 2}, "c.jsonl"]), strict=True):
        Recipe.from_mapping({"data": {"sources": sources}}).save(run / "recipe.yaml")
    assert differing_settings(*runs) == [("data.sources", ["a.jsonl"], [{"path": "b.jsonl", "repeat": 2}, "c.jsonl"])]


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("recipe.yaml", "{oh: [", "recipe.yaml: damaged"),
        ("evaluation/evaluation.json", "{oh: [", "evaluation.json: damaged"),
        (
            "evaluation/evaluation.json",
            '{"model": {"figures": {"exact_match": {"f1": {}}}}}',
            "evaluation.json: damaged",
        ),
        ("metrics.jsonl", '{"loss": 1.0}\n', "a: damaged"),
    ],
)
def test_a_damaged_run_is_named_in_one_line_beside_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, text: str, said: str
):
    run, _ = (make_run(tmp_path / name, lr=1, exact=0.5) for name in ("a", "b"))
    (run / file).write_text(text, encoding="utf-8")
    assert exit_code("runs", "compare", str(run), str(run), "--plot", str(tmp_path / "x.png")) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x.png").exists()
    assert exit_code("runs", str(tmp_path)) == 0
    header, other, damaged = capsys.readouterr().out.splitlines()
    assert header.split()[0] == "run"
    assert other.split()[0] == str(tmp_path / "b")
    assert said in damaged


def test_no_folder_of_runs_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert exit_code("runs", str(tmp_path / "none")) == 2
    assert "no such folder" in capsys.readouterr().err


def test_no_run_folder_is_an_error(tmp_path: Path):
    with pytest.raises(RunError, match="not a run folder"):
        settings_of(tmp_path)
