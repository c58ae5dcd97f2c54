from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.training.command_line import (
    train,
    write_recipe,
)

from instil.training.records.run_folder import Run


def test_samples_are_drawn_at_each_evaluation(reference: Run):
    lines = [json.loads(line) for line in (reference.folder / "samples.jsonl").read_text().splitlines()]
    assert sorted({line["step"] for line in lines}) == [0, 4, 8, 12]
    assert len(lines) == 12
    assert all({"prompt", "answer", "finish_reason"} <= line.keys() for line in lines)


@pytest.mark.slow
def test_tasks_are_measured_at_each_evaluation(tmp_path: Path, base: Path, rows: Path):
    change = {"evaluate": {"tasks": ["exact_match"], "every": 2}, "training": {"max_steps": 2}}
    run = train(write_recipe(tmp_path, change, base=base, rows=rows))
    measured = [line for line in run.metrics() if "tasks" in line]
    assert [line["step"] for line in measured] == [0, 2]
    assert all(0 <= figure["value"] <= 1 for line in measured for figure in line["tasks"].values())
    assert any(name.startswith("exact_match.") for name in measured[0]["tasks"])
