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
    assert rewind_lines(path, step=3) == 3
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3]
    assert path.read_text().endswith("}\n")


@pytest.mark.parametrize(
    "damage", ["\0\0\0\n", '{"step": 2, "lo{"step": 2}\n', '{"no": 1}\n', "[]\n", '{"step": null}\n']
)
def test_rewinding_loses_only_the_damaged_line(tmp_path: Path, damage: str):
    path = tmp_path / "metrics.jsonl"
    first, *others = [f'{{"step": {step}, "loss": 1.0}}\n' for step in (1, 3, 4)]
    path.write_text(first + damage + "".join(others))
    assert rewind_lines(path, step=3) == 2
    assert [line["step"] for line in read_metrics(path)] == [1, 3]


def test_only_a_newline_ends_a_line(tmp_path: Path):
    path = tmp_path / "samples.jsonl"
    lines = [json.dumps({"step": step, "answer": "one\u2028two\x85three"}, ensure_ascii=False) for step in (1, 2, 3)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    rewind_lines(path, step=2)
    assert path.read_text(encoding="utf-8") == "\n".join(lines[:2]) + "\n"
