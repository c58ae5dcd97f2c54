from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.training.command_line import exit_code, write_recipe


@pytest.mark.slow
@pytest.mark.parametrize(
    ("free", "change", "said"),
    [
        (10**12, {}, "2, replicated: each holds the whole model"),
        (1, {}, "2, sharded: the whole model would need "),
        (1, {"mode": "replicated"}, "2, replicated: each holds the whole model"),
        (10**12, {"mode": "sharded"}, "2, sharded: each holds its part of the model"),
        (1, {"optimizer": "muon"}, "and shards are refused (optimizer.name: muon: not with sharded weights"),
        (1, {"processes": 1}, "1"),
        (10**12, {"sequence": 2}, "2, replicated: each holds the whole model; each micro-batch is shared by 2"),
        (1, {"sequence": 2, "mode": "sharded"}, "2, sharded: each holds its part of the model; each micro-batch is "),
    ],
)
def test_plan_says_which_mode_a_run_of_many_would_take(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    base: Path,
    rows: Path,
    capsys: pytest.CaptureFixture[str],
    free: int,
    change: dict[str, Any],
    said: str,
):
    monkeypatch.setattr("instil.training.run_plan.free_memory", lambda device, *, sharing=None: free)
    parallel = {"processes": 2, "mode": "auto"} | {key: change[key] for key in change if key != "optimizer"}
    settings = {"parallel": parallel, "optimizer": {"name": change.get("optimizer", "adamw")}}
    assert exit_code("plan", str(write_recipe(tmp_path, settings, base=base, rows=rows))) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("processes ")]
    assert said in line
