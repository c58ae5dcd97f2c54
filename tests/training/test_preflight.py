from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.training.command_line import exit_code, write_recipe


@pytest.mark.slow
def test_plan_says_what_would_happen_and_writes_nothing(
    tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = write_recipe(tmp_path, base=base, rows=rows)
    assert exit_code("plan", str(recipe)) == 0
    said = capsys.readouterr().out
    for word in (
        "parameters",
        "steps",
        "tokens",
        "time",
        "weights",
        "gradients",
        "optimizer",
        "activations",
        "logits",
        "other",
    ):
        assert f"\n{word} " in said, word
    assert "12 of 5 examples" in said
    assert "verdict" in said
    assert not (tmp_path / "run").exists()
    assert torch.get_default_dtype() == torch.float32


def test_plan_refuses_what_a_run_would_refuse(
    tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    settings = {"parallel": {"processes": 2, "mode": "sharded"}, "optimizer": {"name": "muon"}}
    assert exit_code("plan", str(write_recipe(tmp_path, settings, base=base, rows=rows))) == 2
    assert "optimizer.name: muon: not with sharded weights" in capsys.readouterr().err
