from __future__ import annotations

import shutil

import pytest
from tests.faults.rows_on_disk import write_jsonl
from tests.tiny_chat import FACTS, folders

from instil.evaluation.measure import measure
from instil.generation.engine import Engine
from instil.generation.settings import SamplingSettings

SETTINGS = SamplingSettings(max_new_tokens=4)


def test_tasks_are_chosen_by_the_data_unless_they_are_named(tuned, prompts):
    number = next(prompt for prompt in prompts if prompt.reference_text and "####" in prompt.reference_text)
    assert "numeric" in measure(tuned, [number], tasks=None, data="rows", settings=SETTINGS).tasks
    assert "numeric" in measure(tuned, [number], tasks=[], data="rows", settings=SETTINGS).tasks
    named = measure(tuned, [number], tasks=["exact_match"], data="rows", settings=SETTINGS)
    assert set(named.tasks) == {"exact_match", "behaviour"}


def test_a_model_without_a_run_has_no_overlap_and_each_answer_is_reported(tuned, prompts):
    answers, notes = [], []
    evaluation = measure(
        tuned,
        prompts[:2],
        tasks=["exact_match"],
        data="rows",
        settings=SETTINGS,
        on_answer=lambda: answers.append(1),
        on_note=notes.append,
    )
    assert evaluation.contamination is None
    assert len(answers) == 2
    assert not notes


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(folders()["run"], tmp_path / "run")


def test_the_overlap_with_a_runs_data_is_measured_and_a_missing_source_is_a_note(run, tmp_path, prompts):
    rows = write_jsonl(
        tmp_path / "rows.jsonl", [{"question": question, "answer": answer} for question, answer in FACTS]
    )
    sources = f"[{rows}, {tmp_path / 'gone.jsonl'}]"
    (run / "recipe.yaml").write_text(f"data:\n  sources: {sources}\n  heldout_share: 0\n", encoding="utf-8")
    notes: list[str] = []
    evaluation = measure(
        Engine.load(run), prompts[:2], tasks=["exact_match"], data="rows", settings=SETTINGS, on_note=notes.append
    )
    assert evaluation.contamination is not None
    assert len(notes) == 1
    assert "gone.jsonl" in notes[0]
    assert notes[0].startswith("overlap with the training data not measured")


def test_a_run_without_sources_is_not_compared(run, prompts):
    evaluation = measure(Engine.load(run), prompts[:1], tasks=["exact_match"], data="rows", settings=SETTINGS)
    assert evaluation.contamination is None
