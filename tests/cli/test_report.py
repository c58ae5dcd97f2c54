"""Claims about ``instil report``: which runs it takes."""

from __future__ import annotations

import pytest
from tests.cli.test_runs import make_run
from tests.training.command_line import exit_code


def test_several_runs_get_a_page_each(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "a")
    (tmp_path / "runs" / "a" / "metrics.jsonl").write_text("", encoding="utf-8")
    make_run(tmp_path / "runs" / "b")
    assert exit_code("report", "runs/a", "runs/b") == 0
    assert capsys.readouterr().out.splitlines() == ["wrote runs/a/report.html", "wrote runs/b/report.html"]


@pytest.mark.parametrize(
    ("words", "said"),
    [([], "report: found 0 runs. Expected a run folder"), (["a", "b", "--out", "x.html"], "and one --out")],
)
def test_a_wrong_number_of_runs_is_one_line(words, said, capsys):
    assert exit_code("report", *words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
