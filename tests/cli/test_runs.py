"""Claims about ``instil runs``: the width of its tables, and where the plot goes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from tests.training.command_line import exit_code

from instil.cli import runs as verb
from instil.recipe import Recipe
from instil.reporting.runs import runs as listed
from instil.screen import Screen


def make_run(folder: Path, **settings: object) -> None:
    """Write a run folder as far as listing and comparing read it."""
    folder.mkdir(parents=True)
    Recipe.from_mapping(settings).save(folder / "recipe.yaml")
    (folder / "environment.json").write_text("{}", encoding="utf-8")


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "a", data={"heldout_share": 0.1})
    make_run(tmp_path / "runs" / "b", data={"heldout_share": 0.2})
    return tmp_path


def test_runs_are_listed_by_default_and_lines_in_a_pipe_are_not_wrapped(runs, capsys):
    assert exit_code("runs", "--sort", "name") == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["run", "state", "steps", "in"]
    assert [line.split()[0] for line in lines] == ["a", "b"]
    assert [line.endswith(f"heldout_share {share}") for line, share in zip(lines, (0.1, 0.2), strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("width", [60, 80, 120])
def test_twenty_runs_fit_a_terminal_one_line_each(width, tmp_path):
    many = [
        {
            "optimizer": {"lr": 1e-4 * (1 + n % 5)},
            "data": {"sources": [f"data/file-{n}.jsonl"], "max_tokens": 512 + n},
            "training": {"seed": n // 12},
        }
        for n in range(18)
    ]
    for number, recipe in enumerate(many):
        folder = tmp_path / ("客户服务" if number == 3 else f"a-run-with-a-long-name-{number}")
        make_run(folder, **recipe)
    make_run(tmp_path / "sweep" / "lr-1")
    make_run(tmp_path / "sweep" / "lr-2")
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=True, color_system=None, highlight=False)
    verb._show_table(Screen(console=console), listed(tmp_path), grouped=True)
    lines = text.getvalue().splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("most runs"))
    assert at == 1 + 20 + 1  # the head, the runs, the name of the sweep
    assert "  lr-1" in text.getvalue()
    assert ("…" in "".join(lines[:at])) == ("instil runs compare A B" in " ".join(text.getvalue().split()))
    assert "…" in "".join(lines[1:at]) or width == 120
    assert all(cell_len(line) <= width for line in lines)


def test_a_setting_that_most_runs_have_is_named_once(tmp_path, capsys):
    for number in range(4):
        make_run(
            tmp_path / f"r{number}", training={"batch_size": 16 if number else 8}, adapter={"rank": 8 * (number + 1)}
        )
    assert exit_code("runs", str(tmp_path), "--sort", "name") == 0
    head, first, *others, shared = capsys.readouterr().out.splitlines()
    assert first.endswith("batch_size 8")
    assert shared == "most runs: batch_size 16"
    assert head.endswith("differs in")
    assert not any("rank" in line for line in others)  # no run has an adapter


@pytest.mark.slow
def test_any_number_of_runs_is_compared_and_the_plot_lies_beside_them(runs, capsys):
    assert exit_code("runs", "compare", "runs/a", "runs/b") == 0
    out = capsys.readouterr().out
    assert "data.heldout_share" in out
    assert out.splitlines()[-1] == "wrote runs/comparisons/a-and-b.png"
    make_run(runs / "runs" / "c", data={"heldout_share": 0.3})
    make_run(runs / "runs" / "d", data={"heldout_share": 0.3})
    assert exit_code("runs", "compare", "runs/a", "runs/b", "runs/c", "runs/d") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "wrote runs/comparisons/a-and-3-more.png"
    for name in ("a-and-b", "a-and-3-more"):
        assert (runs / "runs" / "comparisons" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in runs.iterdir()) == ["runs"]
    assert exit_code("runs", "compare", "runs/a") == 2
    assert "found 1 run. Expected two or more" in capsys.readouterr().err


def test_a_comparison_as_json_writes_no_plot(runs, capsys):
    assert exit_code("runs", "compare", "runs/a", "runs/b", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [run["settings"] for run in shown] == [{"data.heldout_share": 0.1}, {"data.heldout_share": 0.2}]
    assert not (runs / "runs" / "comparisons").exists()


@pytest.mark.parametrize("folder", ["none", "empty"])
def test_a_folder_without_runs_is_one_line(folder, runs, capsys):
    (runs / "empty").mkdir()
    assert exit_code("runs", folder) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {folder}: no ")
    assert error.count("\n") == 1
