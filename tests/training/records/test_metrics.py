from __future__ import annotations

import json
from pathlib import Path

import pytest

from instil.training.records.metrics import Metrics, read_metrics, rewind_lines


def test_rewinding_removes_later_steps_and_a_line_cut_short(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(path)
    for step in range(1, 6):
        metrics.add({"step": step, "loss": 1.0 / step})
    metrics.close()
    with path.open("a") as file:
        file.write('{"step": 6, "lo')
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3, 4, 5]
    assert rewind_lines(path, step=3, sampled=3) == 3
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3]
    assert path.read_text().endswith("}\n")


@pytest.mark.parametrize(
    "damage", ["\0\0\0\n", '{"step": 2, "lo{"step": 2}\n', '{"no": 1}\n', "[]\n", '{"step": null}\n']
)
def test_rewinding_loses_only_the_damaged_line(tmp_path: Path, damage: str):
    path = tmp_path / "metrics.jsonl"
    first, *others = [f'{{"step": {step}, "loss": 1.0}}\n' for step in (1, 3, 4)]
    path.write_text(first + damage + "".join(others))
    assert rewind_lines(path, step=3, sampled=3) == 2
    assert [line["step"] for line in read_metrics(path)] == [1, 3]


def test_only_a_newline_ends_a_line(tmp_path: Path):
    path = tmp_path / "samples.jsonl"
    lines = [json.dumps({"step": step, "answer": "one\u2028two\x85three"}, ensure_ascii=False) for step in (1, 2, 3)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    rewind_lines(path, step=2, sampled=2)
    assert path.read_text(encoding="utf-8") == "\n".join(lines[:2]) + "\n"


def test_answers_that_a_kill_prevented_are_made_again(tmp_path: Path):
    """The checkpoint of step 4 was written before its answers; a resumed run draws them once more."""
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(path)
    for step in (2, 4):
        metrics.add({"step": step, "loss": 1.0})
        metrics.add({"step": step, "heldout_loss": 1.0})
        metrics.add({"step": step, "tasks": {}})
        metrics.add({"step": step, "failures": ["x"]})
    metrics.close()
    assert rewind_lines(path, step=4, sampled=2) == 2
    kept = [(line["step"], next(key for key in line if key != "step")) for line in read_metrics(path)]
    assert kept == [(2, "loss"), (2, "heldout_loss"), (2, "tasks"), (2, "failures"), (4, "loss"), (4, "heldout_loss")]
