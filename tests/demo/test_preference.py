"""What the second act counts, and where it writes. tests/demo/test_run.py runs it."""

from pathlib import Path

import pytest

from instil.demo import preference
from instil.demo.pairs import HELPFUL, sentence_for
from instil.demo.preference import PreferenceScores, preference_folder, preference_recipe
from instil.demo.questions import held_out_questions
from instil.demo.run import run_demo
from instil.demo.scoring import Judged
from instil.errors import RunError
from instil.evaluation.preference import PairScore

QUESTIONS = held_out_questions()
HELPFUL_ONES = preference._helpful_questions()
OTHER = [question for question in QUESTIONS if sentence_for(question) is None]


def test_only_questions_under_the_system_prompt_are_asked_for_the_preference():
    assert len(HELPFUL_ONES) == 126
    assert all(question.messages[0] == HELPFUL and len(question.messages) == 2 for question in HELPFUL_ONES)
    there = [question for question in QUESTIONS if preference._is_helpful(question)]
    assert 0 < len(there) < 12, "the first act asks a few under it; they are not among the other questions"


def judged(question, answer, *, stopped=True):
    return Judged(question, answer, answer == question.reference, stopped)


def scores_of(answers, monkeypatch, compared):
    monkeypatch.setattr(preference, "compare_answers", lambda engine, units: compared)
    monkeypatch.setattr(preference, "read", lambda path, objective: [])
    return preference._scores(None, answers, heldout=Path("pairs.jsonl"))


def test_a_fact_counts_in_either_form_and_the_preference_in_one(monkeypatch):
    answers = [
        judged(HELPFUL_ONES[0], HELPFUL_ONES[0].reference),
        judged(HELPFUL_ONES[1], sentence_for(HELPFUL_ONES[1])),
        judged(HELPFUL_ONES[2], sentence_for(HELPFUL_ONES[3])),
        judged(HELPFUL_ONES[3], '{"a": "form that nobody wants"}', stopped=False),
        judged(OTHER[0], OTHER[0].reference),
        judged(OTHER[1], "wrong"),
        judged(OTHER[2], OTHER[2].reference),
    ]
    compared = [PairScore(-1, -3, 9, 2), PairScore(-5, -1, 9, 2), None]
    found = scores_of(answers, monkeypatch, compared)
    assert isinstance(found, PreferenceScores)
    assert (found.full_sentences.value, found.full_sentences.n) == (0.25, 4)
    assert (found.facts.value, found.facts.n) == (0.5, 4)
    assert (found.other_questions.value, found.other_questions.n) == (pytest.approx(2 / 3), 3)
    assert (found.stops.value, found.stops.n) == (pytest.approx(6 / 7), 7)
    assert (found.pairs_won.value, found.pairs_won.n) == (0.5, 2)
    assert (found.margin.value, found.margin.n) == (-1, 2)
    assert all(figure.keys() == {"value", "low", "high", "n"} for figure in found.to_json().values())


def test_the_second_run_is_an_ordinary_recipe_that_starts_from_the_first(tmp_path):
    sources = tmp_path / "pairs.jsonl", tmp_path / "heldout-pairs.jsonl"
    recipe = preference_recipe(preference_folder(tmp_path / "demo"), model=tmp_path / "demo", sources=sources)
    assert recipe.output == str(tmp_path / "demo-preference")
    assert recipe.model.name == str(tmp_path / "demo")
    assert recipe.training.objective == "dpo"
    assert [source.path for source in (*recipe.data.sources, *recipe.data.heldout)] == [str(path) for path in sources]


def test_a_strangers_second_folder_is_found_before_the_first_act(tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "results.json").write_text('{"base": {}}')
    (tmp_path / "demo-preference").mkdir()
    (tmp_path / "demo-preference" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="demo-preference: exists and is not an earlier demo"):
        run_demo(tmp_path / "demo", preference=True)
    assert (tmp_path / "demo" / "results.json").exists(), "the earlier first act is kept"
    assert (tmp_path / "demo-preference" / "thesis.txt").read_text() == "mine"
