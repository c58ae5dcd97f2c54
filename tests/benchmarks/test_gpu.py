"""benchmarks/gpu.py from end to end on a faked device, so that time on a card is not lost to a mistake."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from tests.benchmarks.programs import FOLDER, program

gpu = program("gpu")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(FOLDER / "gpu.py"), *words], capture_output=True, text=True, check=False)


@pytest.mark.long
@pytest.mark.slow
def test_every_cell_ends_in_a_rehearsal(tmp_path):
    pytest.importorskip("bitsandbytes")
    out = tmp_path / "rehearsal.jsonl"
    done = run("--out", str(out), "--rehearse")
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["cell"] for line in lines] == [cell.name for cell in gpu.cells()]
    assert {
        line["cell"]: line.get("traceback", line.get("wrong"))
        for line in lines
        if line["status"] in ("failed", "wrong")
    } == {}
    skipped = {line["cell"].rpartition(":")[2] for line in lines if line["status"] == "skipped"}
    assert skipped <= {"trl", "compiled"}
    speeds = [line["figures"] for line in lines if line["cell"].startswith("speed:") and line["status"] == "done"]
    assert len(speeds) >= 11
    assert all(figures["tokens_per_second"] > 0 and 0 < figures["share_of_matmul"] < 1 for figures in speeds)
    # Seconds are the model's, so the largest shape is as quick as the smallest and nothing takes a whole second.
    assert all(max(figures["step_seconds"]) < 1 for figures in speeds)


def test_a_cell_that_fails_is_recorded_and_the_next_one_runs(tmp_path, monkeypatch):
    fine, broken = gpu.Cell("fine", ("machine", {})), gpu.Cell("broken", ("no_such_function", {}))
    other = gpu.Cell("needs", ("machine", {}), needs=("trl",))
    monkeypatch.setattr(gpu, "cells", lambda: [broken, other, fine])
    monkeypatch.setattr(gpu, "missing_of", lambda cell, args: "TRL" if cell.needs else None)
    monkeypatch.setattr(gpu, "in_a_process", lambda cell, args, site: gpu.run_here(cell, rehearse=True))
    monkeypatch.setattr("gpu_device.open_device", lambda kind: program("gpu_device").Device("cpu", torch.device("cpu")))
    out = tmp_path / "gpu.jsonl"
    args = gpu.build_parser().parse_args(["--out", str(out)])
    gpu.run_all(args, results := {}, None)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["cell"], line["status"]) for line in lines] == [
        ("broken", "failed"),
        ("needs", "skipped"),
        ("fine", "done"),
    ]
    assert "no_such_function" in lines[0]["traceback"]
    assert results.keys() == gpu.read_results(out).keys()


def test_resuming_runs_what_has_no_result_and_what_was_skipped(tmp_path):
    out = tmp_path / "gpu.jsonl"
    states = {"machine": "done", "attention": "failed", "masks": "skipped"}
    lines = [json.dumps({"cell": name, "status": status}) for name, status in states.items()]
    out.write_text("\n".join(lines) + '\n{"cell": "cut", "sta', encoding="utf-8")  # the power went off
    results = gpu.read_results(out)
    args = gpu.build_parser().parse_args(["--out", str(out), "--resume"])
    names = [cell.name for cell in gpu.chosen(args, results)]
    assert names[:1] == ["masks"]
    assert "cut" in names
    assert {"machine", "attention"}.isdisjoint(names)
    again = gpu.build_parser().parse_args(["--out", str(out), "--cell", "attention"])
    assert [cell.name for cell in gpu.chosen(again, results)] == ["attention"]


def test_no_cell_may_take_more_than_four_minutes():
    assert max(cell.seconds for cell in gpu.cells()) <= 240
    names = [cell.name for cell in gpu.cells()]
    assert len(set(names)) == len(names)
    assert names.index("resume:full") < names.index("speed:llama-3.2-1b:full:ours") < names.index("nccl")
    assert names.index("nccl") < names.index("speed:llama-3.2-1b:qlora:ours")


def test_no_cell_begins_that_may_end_too_late(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "in_a_process", lambda cell, args, site: {"status": "done"})
    args = gpu.build_parser().parse_args(["--out", str(tmp_path / "gpu.jsonl"), "--minutes", "1.6"])
    gpu.run_all(args, {}, None)
    results = gpu.read_results(tmp_path / "gpu.jsonl").values()
    assert [line["cell"] for line in results if line["status"] == "done"] == ["machine"]
    assert "Call again with --resume" in capsys.readouterr().out


def test_both_sides_of_a_shape_stand_in_one_row():
    def line(cell, rate, peak):
        return {
            "cell": cell,
            "status": "done",
            "figures": {"tokens_per_second": rate, "peak_mb": peak, "share_of_matmul": 0.5},
        }

    found = [line("speed:qwen3-4b:full:ours", 3000.0, 70000), line("speed:qwen3-4b:full:trl", 1000.0, 90000)]
    rows = gpu.table({one["cell"]: one for one in found})
    assert rows[-1] == "| qwen3-4b:full | bf16 | 3,000 | 1,000 | 3.00 | 70,000 | 90,000 | 0.5 |"


def test_results_are_not_mixed_with_those_of_another_call(tmp_path, monkeypatch):
    out = tmp_path / "gpu.jsonl"
    out.write_text('{"cell": "machine", "status": "done"}\n', encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(out)])
    with pytest.raises(SystemExit, match="Add --resume"):
        gpu.main()


def test_the_cost_model_counts_arithmetic_traffic_and_launches():
    device = program("gpu_device")
    square = torch.zeros(4096, 4096, dtype=torch.bfloat16, device="meta")
    with device.CostModel() as product:
        square @ square
    with device.CostModel() as copy:
        square + 1
    with device.CostModel() as small:
        square[:1, :1] + 1
    assert product.seconds == pytest.approx(2 * 4096**3 / device.FLOPS)
    assert copy.seconds == pytest.approx(2 * 2 * 4096**2 / device.BANDWIDTH)
    assert small.seconds == pytest.approx(device.LAUNCH)  # slices are views, which launch nothing
