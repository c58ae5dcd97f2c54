from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.training.command_line import exit_code, losses_of, train, write_recipe
from tests.views.parsed import assert_harmless, text_of

from instil.errors import RunError
from instil.recipe import Recipe
from instil.reporting.plots import shared_figures
from instil.reporting.runs import RunSummary, find_runs, runs, summarise
from instil.training.records.run_folder import Run
from instil.training.records.run_settings import differences, settings_of


@pytest.mark.slow
def test_runs_are_listed_and_compared_from_their_folders(
    tmp_path: Path, base: Path, rows: Path, reference: Run, capsys: pytest.CaptureFixture[str]
):
    other = train(write_recipe(tmp_path, {"training": {"max_steps": 1, "seed": 9}}, base=base, rows=rows))
    assert find_runs(reference.folder.parent) == [reference.folder]
    found = summarise(reference.folder)
    assert (found.steps, found.state) == (len(losses_of(reference)), "finished")
    assert found.heldout_loss == reference.results["heldout_loss"]
    assert found.heldout_step == found.steps
    assert (found.best_heldout_loss, found.best_step) == (
        reference.results["best_heldout_loss"],
        reference.results["best_step"],
    )
    one, two = differences([reference.folder, other.folder])
    assert (one["training.seed"], two["training.seed"]) == (1, 9)
    assert "optimizer.lr" not in one
    capsys.readouterr()
    assert exit_code("runs", str(reference.folder.parent)) == 0
    out = capsys.readouterr().out
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


def with_metrics(folder: Path, heldout: dict[int, float], *, final: str = "last", finished: bool = True) -> Path:
    """Add metrics to a run folder: two steps for each held-out loss."""
    lines: list[dict[str, object]] = []
    for step, loss in heldout.items():
        lines.append({"step": step, "loss": loss, "seconds": {"total": 1.0}})
        lines.append({"step": step, "heldout_loss": loss})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    recipe = (folder / "recipe.yaml").read_text(encoding="utf-8")
    (folder / "recipe.yaml").write_text(f"{recipe}checkpoint: {{final: {final}}}\n", encoding="utf-8")
    if finished:
        (folder / "results.json").write_text('{"steps": 1}', encoding="utf-8")
    return folder


@pytest.mark.slow
def test_the_table_says_what_differs_and_what_the_evaluation_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    runs = [make_run(tmp_path / name, lr=lr, exact=exact) for name, lr, exact in (("a", 0.1, 0.5), ("b", 0.2, 0.75))]
    assert exit_code("runs", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "lr 0.1" in out
    assert "lr 0.2" in out
    assert "exact_match" in out
    assert "75.0%" in out
    assert differences([runs[0], runs[0]]) == [{}, {}]
    assert shared_figures([summarise(run).figures for run in runs]) == ["exact_match.exact_match"]
    assert exit_code("runs", "compare", *map(str, runs), "--plot", str(tmp_path / "both.png")) == 0
    assert "75.0% [65.0%, 85.0%] n=50" in capsys.readouterr().out
    assert (tmp_path / "both.png").exists()


def test_a_notebook_shows_runs_as_a_table(tmp_path: Path):
    for name, lr, exact in (("a", 0.1, 0.5), ("b<script>", 0.2, 0.75)):
        with_metrics(make_run(tmp_path / name, lr=lr, exact=exact), {0: 2.5, 10: 2.0})
    broken = make_run(tmp_path / "c", lr=1, exact=0.5)
    (broken / "evaluation" / "evaluation.json").write_text("{", encoding="utf-8")
    found = runs(tmp_path, sort="name")
    html = found._repr_html_()
    assert_harmless(html)
    text = text_of(html)
    for words in ("3 runs", "b<script>", "finished", "damaged", "75.0%", "lr 0.2", "2.0000 (step 10)", "exact_match"):
        assert words in text, words
    assert [run.name for run in found] == ["a", "b<script>", "c"]
    assert found[0] == summarise_named(tmp_path / "a", found[0])


def summarise_named(folder: Path, like: RunSummary) -> RunSummary:
    return replace(summarise(folder, name=like.name), settings=like.settings)


def test_the_heldout_loss_is_that_of_the_written_model(tmp_path: Path):
    losses = {0: 0.5, 10: 2.0, 20: 1.5, 30: 1.8}
    last = summarise(with_metrics(make_run(tmp_path / "last", lr=1, exact=0.5), losses))
    assert (last.heldout_loss, last.heldout_step, last.best_heldout_loss, last.best_step) == (1.8, 30, 1.5, 20)
    best = summarise(with_metrics(make_run(tmp_path / "best", lr=1, exact=0.5), losses, final="best"))
    assert (best.heldout_loss, best.heldout_step) == (1.5, 20)
    open_run = with_metrics(make_run(tmp_path / "open", lr=1, exact=0.5), losses, final="best", finished=False)
    assert (summarise(open_run).heldout_loss, summarise(open_run).state) == (1.8, "not finished")


def test_runs_of_a_sweep_and_only_runs_are_found(tmp_path: Path):
    for name in ("a", "sweep/lr-1", "sweep/lr-2"):
        make_run(tmp_path / name, lr=1, exact=0.5)
    make_run(tmp_path / "a" / "model" / "copy", lr=1, exact=0.5)  # what lies in a run is its own
    (tmp_path / "notes").mkdir()
    (tmp_path / "recipe.yaml").write_text("model: demo\n", encoding="utf-8")  # a recipe of the user's own
    assert [run.name for run in runs(tmp_path, sort="name")] == ["a", "sweep/lr-1", "sweep/lr-2"]
    assert [run.name for run in runs(tmp_path / "sweep", sort="name")] == ["lr-1", "lr-2"]
    assert [run.name for run in runs(tmp_path / "a")] == ["a"]


def test_runs_are_sorted_and_those_without_the_value_come_last(tmp_path: Path):
    for number, (name, loss) in enumerate({"a": 2.0, "b": 1.0, "c": math.nan, "d": None}.items()):
        run = make_run(tmp_path / name, lr=number, exact=0.1 * number)
        if loss is not None:
            with_metrics(run, {1: loss})
        for path in run.rglob("*"):
            os.utime(path, (1000 + number, 1000 + number))

    def names(**settings: Any) -> list[str]:
        return [run.name for run in runs(tmp_path, **settings)]

    assert names() == ["d", "c", "b", "a"]
    assert names(sort="heldout")[:2] == ["b", "a"]
    assert names(sort="exact_match") == ["d", "c", "b", "a"]
    assert names(sort="name", last=2) == ["c", "d"]
    with pytest.raises(RunError, match=r"sort: found 'exact_mach' \(did you mean 'exact_match'"):
        names(sort="exact_mach")
    with pytest.raises(RunError, match="last: found 0"):
        names(last=0)


def test_a_run_as_json_is_json_also_where_a_loss_is_not_finite(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with_metrics(make_run(tmp_path / "a", lr=1, exact=0.5), {1: math.nan})
    (make_run(tmp_path / "b", lr=1, exact=0.5) / "recipe.yaml").write_text("{oh: [", encoding="utf-8")
    assert exit_code("runs", str(tmp_path), "--json", "--sort", "name") == 0

    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    good, bad = json.loads(capsys.readouterr().out, parse_constant=no_constant)
    assert (good["name"], good["heldout_loss"], good["steps"]) == ("a", None, 1)
    assert good["figures"]["exact_match.exact_match"] == {"value": 0.5, "low": 0.4, "high": 0.6, "n": 50}
    assert (bad["state"], "recipe.yaml: damaged" in bad["problem"]) == ("damaged", True)


def test_a_file_that_vanishes_while_a_run_is_listed_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run that goes on removes its older checkpoints."""
    run = make_run(tmp_path / "a", lr=1, exact=0.5)
    (run / "gone.bin").write_bytes(b"x" * 5000)
    whole = summarise(run).size
    found = os.scandir

    @contextlib.contextmanager
    def vanishing(path: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        with found(path) as items:
            entries = list(items)
        (run / "gone.bin").unlink(missing_ok=True)
        yield iter(entries)

    monkeypatch.setattr(os, "scandir", vanishing)
    assert summarise(run).size == whole - 5000


def test_sources_that_differ_are_shown_by_what_was_set_of_them(tmp_path: Path):
    runs = [make_run(tmp_path / name, lr=0.1, exact=0.5) for name in "ab"]
    for run, sources in zip(runs, (["a.jsonl"], [{"path": "b.jsonl", "repeat": 2}, "c.jsonl"]), strict=True):
        Recipe.from_mapping({"data": {"sources": sources}}).save(run / "recipe.yaml")
    assert differences(runs) == [
        {"data.sources": ["a.jsonl"]},
        {"data.sources": [{"path": "b.jsonl", "repeat": 2}, "c.jsonl"]},
    ]


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
    out, error = capsys.readouterr()
    header, other = out.splitlines()
    warning, damaged = error.splitlines()
    assert header.split()[0] == "run"
    assert other.split()[0] == "b"
    assert warning == "warning: 1 run cannot be read:"
    assert said in damaged


def test_no_folder_of_runs_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert exit_code("runs", str(tmp_path / "none")) == 2
    assert "no such folder" in capsys.readouterr().err


def test_no_run_folder_is_an_error(tmp_path: Path):
    with pytest.raises(RunError, match="not a run folder"):
        settings_of(tmp_path)
