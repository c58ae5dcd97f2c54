from __future__ import annotations

import io
import re
import sys

import pytest

from instil.training.records.progress_bar import ProgressBar


@pytest.mark.parametrize(
    ("columns", "shown", "hidden"),
    [
        (60, ["400/4000", "loss 0.8345"], ["MB"]),
        (140, ["400/4000", "loss", "held-out 1.2", "left", "tokens/s", "lr", "MB"], []),
    ],
)
def test_the_live_line_is_one_line_in_a_terminal_of_any_width(
    monkeypatch: pytest.MonkeyPatch, columns: int, shown: list[str], hidden: list[str]
):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", Terminal())
    line = {
        "step": 400,
        "loss": 0.83451,
        "learning_rate": 1e-4,
        "tokens": 90,
        "memory_mb": 544.0,
        "seconds": {"total": 0.1},
    }
    with ProgressBar(num_steps=4000, done=0) as live:
        live.step(line)
        live.heldout(400, 1.2)  # takes its place among the figures, also after the last step
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", sys.stdout.getvalue()).strip().splitlines()[-1].strip("\r ")
    assert len(last) <= columns
    places = [last.find(word) for word in ("loss 0.8345", "held-out", "lr ", "left") if word in last]
    assert places == sorted(places)
    assert "…" not in last
    assert [word for word in shown if word not in last] == []
    assert not [word for word in hidden if word in last]


def test_a_pipe_gets_a_line_for_each_evaluation(capsys: pytest.CaptureFixture[str]):
    line = {"loss": 4.12e-5, "learning_rate": 1e-4, "tokens": 90, "memory_mb": 544.0, "seconds": {"total": 0.1}}
    with ProgressBar(num_steps=40, done=0) as live:
        live.heldout(0, 2.5)
        live.step(line | {"step": 1})
        live.heldout(20, 0.000512)
    before, step, after = capsys.readouterr().out.splitlines()
    assert before == "step 0/40  held-out 2.5000"
    assert after == "step 20/40  held-out 5.12e-04"
    assert step.startswith("step 1/40  loss 4.12e-05  held-out 2.5000 @0")
    with ProgressBar(num_steps=40, done=0, quiet=True) as live:
        live.heldout(20, 0.5)
    assert capsys.readouterr().out == ""
