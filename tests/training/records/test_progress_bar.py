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
        live.heldout(400, 1.2)
        live.step(line)
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", sys.stdout.getvalue()).strip().splitlines()[-1].strip("\r ")
    assert len(last) <= columns
    assert "…" not in last
    assert [word for word in shown if word not in last] == []
    assert not [word for word in hidden if word in last]
