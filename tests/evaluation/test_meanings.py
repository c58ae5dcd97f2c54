"""Claims about what figures mean, which prompts were taken, and which figures are the same thing in two models."""

from __future__ import annotations

import json

import pytest

from instil.evaluation.comparison import compare
from instil.evaluation.evaluate import evaluate
from instil.evaluation.figure_table import figure_rows
from instil.evaluation.meanings import FIGURES
from instil.evaluation.tasks import TASKS, TaskOptions
from instil.generation.prompts import select_prompts
from instil.generation.settings import SamplingSettings


def test_every_task_and_its_main_figure_have_a_meaning():
    for name, make in TASKS.items():
        assert make(TaskOptions()).main in FIGURES[name], name
    assert all(text and not text.endswith(".") for names in FIGURES.values() for text in names.values())


def test_every_figure_of_an_evaluation_has_a_meaning(tuned, prompts):
    found = evaluate(
        tuned,
        prompts,
        tasks=["exact_match", "classification", "behaviour"],
        settings=SamplingSettings(max_new_tokens=8),
    )
    assert [row.key for row in figure_rows(found) if not row.meaning] == []


@pytest.mark.parametrize(
    ("limit", "words"), [(2, "the first 2 of 5 prompts"), (5, "all 5 prompts"), (None, "all 5 prompts")]
)
def test_the_selection_counts_the_prompts_behind_the_limit_but_no_damaged_row(tmp_path, limit, words):
    rows = [json.dumps({"question": f"{n}+1?", "answer": str(n + 1)}) for n in range(5)]
    if limit == 2:
        rows.insert(3, '{"neither": 1}')
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(rows) + "\n")
    taken, selection = select_prompts(path, limit=limit)
    assert (len(taken), str(selection)) == (limit or 5, words)


def test_answers_cut_at_a_stop_string_are_no_measure_of_stopping(tuned, prompts):
    found = evaluate(tuned, prompts, tasks=["exact_match"], settings=SamplingSettings(max_new_tokens=8, stop=("\n",)))
    assert found.model.not_measured == {"behaviour.stops": "answers are cut at a stop string"}


def test_a_difference_without_spread_has_no_interval():
    tied = compare([0.0] * 12, [0.0] * 12)
    assert tied.change == "0.0 points, all tied"
    assert "[" in compare([1.0, 0.0], [0.0, 0.0]).change
