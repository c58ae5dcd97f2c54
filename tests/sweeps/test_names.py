"""Claims about names of runs: short, different for different runs, and folders on every system."""

from __future__ import annotations

import pytest

from instil.sweeps.names import LONGEST, run_name, run_names, short_number


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-4, "1e-4"), (0.00025, "2.5e-4"), (0.5, "0.5"), (8, "8"), (1e-30, "1e-30"), (-0.001, "-1e-3"), (10**9, "1e9")],
)
def test_numbers_are_written_as_people_write_them(value, text):
    assert short_number(value) == text


def test_a_name_that_says_nothing_is_replaced_by_its_group():
    assert run_name({"model.name": "Qwen/Qwen3-0.6B", "adapter.kind": "lora"}) == "model-Qwen3-0.6B-adapter-lora"
    assert run_name({"evaluate.every": 5, "checkpoint.every": 2}) == "evaluate-every-5-checkpoint-every-2"


def test_paths_and_lists_make_names_of_folders():
    assert run_name({"data.sources": [{"path": "data/good rows.jsonl"}]}) == "sources-good-rows"
    assert run_name({"adapter.targets": ["q_proj", "v_proj"]}) == "targets-q_proj+v_proj"
    assert run_name({"model.template": "../../etc/passwd"}) == "template-passwd"
    assert run_name({"device": ".."}) == "device-empty"


def test_different_runs_have_different_names():
    settings = [{"model.name": name} for name in ("a/model", "b/model", "c/MODEL")]
    assert run_names(settings) == ["model-model", "model-model-2", "model-MODEL-3"]


def test_a_long_name_is_cut_and_stays_its_own():
    names = run_names([{"model.template": "x" * 300 + end} for end in "ab"])
    assert all(len(name) <= LONGEST for name in names)
    assert len(set(names)) == 2
