"""Pairs about trained entities, two different right answers each; held-out pairs about the test's own questions."""

import json
import random

import pytest

from instil.data import read
from instil.demo import pairs as pairs_module
from instil.demo.pairs import HELPFUL, held_out_pairs, sentence_for, training_pairs, write_pairs
from instil.demo.questions import held_out_questions
from instil.demo.split import held_out, trained


@pytest.fixture(scope="module")
def pairs():
    return training_pairs(300)


def text_of(pair):
    return " ".join((*(text for _, text in pair.messages), pair.chosen, pair.rejected))


def test_the_same_seed_gives_the_same_pairs_and_another_gives_others(pairs):
    assert training_pairs(300) == pairs
    assert training_pairs(300, seed=8) != pairs


def test_every_second_pair_prefers_the_sentence_and_no_prompt_comes_twice(pairs):
    assert [pair.wants for pair in pairs].count("sentence") == 150
    assert len({pair.messages for pair in pairs}) == 300


def test_the_system_prompt_alone_decides_which_answer_is_preferred(pairs):
    assert {pair.wants for pair in pairs} == {"sentence", "usual"}
    for pair in [*pairs, *held_out_pairs()]:
        assert (pair.messages[0] == HELPFUL) == (pair.wants == "sentence")


def test_the_sentence_is_preferred_to_the_same_value(pairs):
    found = [pair for pair in [*pairs, *held_out_pairs()] if pair.wants == "sentence"]
    assert len(found) == 150 + 126
    for pair in found:
        assert len(pair.messages) == 2
        assert pair.chosen.endswith(f"{pair.rejected}.")


def test_every_other_prompt_prefers_another_answer_than_the_sentence(pairs):
    others = [pair for pair in pairs if pair.wants == "usual"]
    assert len(others) == 150
    for pair in others:
        assert pair.rejected.endswith(".")
        assert pair.chosen != pair.rejected


@pytest.mark.parametrize("kind", pairs_module._OTHERS)
def test_every_kind_of_other_prompt_can_be_drawn(kind, monkeypatch):
    monkeypatch.setattr(pairs_module, "_OTHERS", {kind: 1})
    rng, country = random.Random(1), next(entity for entity in trained() if entity.kind == "country")
    found = [pairs_module._usual(country, "continent", rng) for _ in range(20)]
    assert any(pair is not None and pair.chosen != pair.rejected for pair in found)


def test_no_pair_that_is_trained_names_a_held_out_entity(pairs):
    names = [entity.name.casefold() for entity in held_out()]
    texts = [text_of(pair).casefold() for pair in pairs]
    assert [(name, text) for text in texts for name in names if name in text] == []


def test_a_leak_would_be_seen():
    names = [entity.name.casefold() for entity in held_out()]
    assert all(any(name in text_of(pair).casefold() for name in names) for pair in held_out_pairs())


def test_there_is_a_held_out_pair_for_each_plain_question_of_the_test():
    plain = [question for question in held_out_questions() if sentence_for(question) is not None]
    assert len(plain) == 126
    assert {question.task for question in plain} == {"question", "translation"}
    assert [pair.messages for pair in held_out_pairs()] == [(HELPFUL, *question.messages) for question in plain]


def test_the_files_are_read_as_pairs(pairs, tmp_path):
    training, heldout = write_pairs(tmp_path / "new", pairs, held_out_pairs())
    assert [path.name for path in (training, heldout)] == ["pairs.jsonl", "heldout-pairs.jsonl"]
    assert len(training.read_text(encoding="utf-8").splitlines()) == 300
    chosen, rejected, *_ = read(training, objective="dpo")
    assert (chosen.messages[-1].content, rejected.messages[-1].content) == (pairs[0].chosen, pairs[0].rejected)
    assert json.loads(heldout.read_text(encoding="utf-8").splitlines()[0])["chosen"] == held_out_pairs()[0].chosen
