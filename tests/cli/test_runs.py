"""Claims about ``instil runs``: the width of its tables, and where the plot goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.training.command_line import exit_code

from instil.cli import runs as verb
from instil.recipe import Recipe


def make_run(folder: Path, **data: object) -> None:
    """Write a run folder as far as listing and comparing read it."""
    folder.mkdir(parents=True)
    Recipe.from_mapping({"data": data}).save(folder / "recipe.yaml")
    (folder / "environment.json").write_text("{}", encoding="utf-8")


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "a", heldout_share=0.1)
    make_run(tmp_path / "runs" / "b", heldout_share=0.2)
    return tmp_path


def test_runs_are_listed_by_default_and_lines_in_a_pipe_are_not_wrapped(runs, capsys):
    assert exit_code("runs") == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["run", "model", "state", "steps"]
    assert [line.split()[0] for line in lines] == ["runs/a", "runs/b"]
    assert [
        line.rstrip().endswith(f"data.heldout_share {share}") for line, share in zip(lines, (0.1, 0.2), strict=True)
    ]


def test_many_differences_are_counted_instead_of_listed():
    values = {"model.name": "demo", **{f"training.setting{n}": n for n in range(verb.MOST_DIFFERENCES + 2)}}
    lines = verb._settings(values).splitlines()
    assert lines[0] == "training.setting0 0"
    assert len(lines) == verb.MOST_DIFFERENCES + 1
    assert lines[-1] == "… and 2 more"


def test_the_plot_is_named_after_the_runs(runs, capsys):
    assert exit_code("runs", "compare", "runs/a", "runs/b") == 0
    out = capsys.readouterr().out
    assert "data.heldout_share" in out
    assert out.splitlines()[-1] == "wrote a-and-b.png"
    assert (runs / "a-and-b.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("folder", ["none", "empty"])
def test_a_folder_without_runs_is_one_line(folder, runs, capsys):
    (runs / "empty").mkdir()
    assert exit_code("runs", folder) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {folder}: no ")
    assert error.count("\n") == 1
