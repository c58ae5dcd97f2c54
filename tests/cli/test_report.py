"""Claims about ``instil report``: which runs it takes."""

from __future__ import annotations

import pytest
from tests.cli.test_runs import make_run
from tests.training.command_line import exit_code


def test_several_runs_get_a_page_each(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "a")
    make_run(tmp_path / "runs" / "b")
    assert exit_code("report", "runs/a", "runs/b") == 0
    assert capsys.readouterr().out.splitlines() == ["wrote runs/a/report.html", "wrote runs/b/report.html"]


def test_a_sweep_gets_a_page_for_each_of_its_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("lr-1", "lr-2"):
        make_run(tmp_path / "runs" / "sweep" / name)
    assert exit_code("report", "runs/sweep") == 0
    assert capsys.readouterr().out.splitlines() == [f"wrote runs/sweep/lr-{n}/report.html" for n in (1, 2)]
    (tmp_path / "empty").mkdir()
    assert exit_code("report", "empty") == 2
    assert "empty: not a run folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [([], "report: found 0 runs. Expected a run folder"), (["runs", "--out", "x.html"], "and one --out")],
)
def test_a_wrong_number_of_runs_is_one_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        make_run(tmp_path / "runs" / name)
    assert exit_code("report", *words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
