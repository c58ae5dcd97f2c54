"""Claims about ``instil plan``: every figure has a line, options count, and nothing is trained."""

from __future__ import annotations

import json

import pytest
from tests.training.command_line import exit_code


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"{n}+1", "answer": f"{n + 1}"} for n in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(
        "data: {sources: rows.jsonl, store: store, heldout_share: 0}\ndevice: cpu\n"
        "training: {epochs: 2, batch_size: 10}\n",
        encoding="utf-8",
    )
    return "mine.yaml"


@pytest.mark.slow
def test_it_prints_every_figure_and_trains_nothing(recipe, tmp_path, capsys):
    assert exit_code("plan", recipe) == 0
    lines = capsys.readouterr().out.splitlines()
    figures = dict(line.split(maxsplit=1) for line in lines if " " in line.strip() and not line.startswith(" "))
    for name in ("parameters", "precision", "template", "steps", "tokens", "processes", "time", "verdict"):
        assert figures[name], name
    assert figures["steps"] == "4 of 10 examples (2.00 passes)"
    assert "are trained" in figures["tokens"]
    assert figures["rate"] == "0.001, the default for full fine-tuning of 3.0M parameters"
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_an_option_replaces_the_setting_of_the_file(recipe, capsys):
    assert exit_code("plan", recipe, "--training.max-steps", "1", "--optimizer.lr", "3e-4") == 0
    printed = capsys.readouterr().out
    assert "1 of 10 examples (0.50 passes)" in printed
    assert "0.0003, as set; the default for full fine-tuning of 3.0M parameters is 0.001" in printed


def test_a_recipe_without_data_is_one_line(recipe, capsys):
    assert exit_code("plan", recipe, "--data.sources", "nowhere.jsonl") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: nowhere.jsonl: no such file")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_json_has_the_figures_of_the_text_and_nothing_else_is_printed(recipe, capsys):
    assert exit_code("plan", recipe, "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["steps"], plan["batch_size"], plan["unit"], plan["epochs"]) == (4, 10, "example", 2.0)
    assert plan["memory"]["peak"] <= sum(size for kind, size in plan["memory"].items() if kind != "peak")
    assert plan["fits"] is True
    assert plan["verdict"].startswith("fits: ")
    assert plan["data"]["rows_in"] == 20
    assert exit_code("plan", recipe, "--json", "--optimizer.lr", "1e-3,1e-4", "--best-by", "loss") == 0
    sweep = json.loads(capsys.readouterr().out)
    assert (sweep["runs"], len(sweep["plans"]), sweep["best_by"]) == (2, 2, "loss")
    assert sweep["disk"] == sum(run["disk"] for run in sweep["plans"].values())
