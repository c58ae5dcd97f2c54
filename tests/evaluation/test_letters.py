"""Claims about the choice that an answer makes; more phrasings are in phrasings.tsv."""

from __future__ import annotations

import pytest
from tests.evaluation.cases import case
from tests.evaluation.hostile_texts import HOSTILE, seconds_for

from instil.evaluation.letters import choices_of, chosen_letter, judge_choice


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b)", "B"),
        ("(C) Paris", "C"),
        ("Answer: D", "D"),
        ("The answer is (A).", "A"),
        ("A man", None),
        ("I think so", None),
    ],
)
def test_the_letter_that_an_answer_chooses(text, letter):
    assert chosen_letter(text) == letter


def test_choices_may_be_named_by_text_or_number():
    columns = {"choices": {"text": ["Rome", "Paris", "Oslo"], "label": ["A", "B", "C"]}}
    assert judge_choice(case("It is Paris.", "B", **columns))["choice"] == 1
    assert judge_choice(case("Rome or Paris", "B", **columns)) == {"choice": 0.0, "has_choice": 0.0}
    assert judge_choice(case("C", "2", **columns))["choice"] == 1
    assert judge_choice(case("C", "something", **columns)) is None


@pytest.mark.parametrize(
    ("columns", "choices"),
    [
        ({"choices": ["Rome", "Oslo"]}, {"A": "Rome", "B": "Oslo"}),
        ({"choices": {"text": ["Rome", "Oslo"], "label": ["1", "2"]}}, {"1": "Rome", "2": "Oslo"}),
        ({"options": {"B": "Rome", "a": "Oslo"}}, {"B": "Rome", "A": "Oslo"}),
        ({"options": {"first": "Rome", "second": "Oslo"}}, {"A": "Rome", "B": "Oslo"}),
        ({"options": [{"label": "(a)", "text": "Rome"}, {"label": "(b)", "text": "Oslo"}]}, {"A": "Rome", "B": "Oslo"}),
        ({"choices": {"text": ["Rome", "Oslo"], "label": ["A"]}}, {"A": "Rome", "B": "Oslo"}),
        ({"A": "Rome", "B": "Oslo", "C": "Bern", "D": "Wien"}, {"A": "Rome", "B": "Oslo", "C": "Bern", "D": "Wien"}),
        ({"choices": "Rome or Oslo"}, {}),
        ({"choices": 3}, {}),
        ({}, {}),
    ],
)
def test_choices_are_read_from_the_columns_that_people_have(columns, choices):
    assert choices_of(columns) == choices


@pytest.mark.parametrize(
    ("prediction", "reference", "right"),
    [
        ("2", "2", 1),
        ("(2) Oslo", "2", 1),
        ("The answer is 2.", "2", 1),
        ("Oslo", "2", 1),
        ("3", "2", 0),
        ("Bern", "2", 0),
    ],
)
def test_labels_that_are_digits_are_labels_and_no_index(prediction, reference, right):
    choices = {"text": ["Rome", "Oslo", "Bern"], "label": ["1", "2", "3"]}
    assert judge_choice(case(prediction, reference, choices=choices))["choice"] == right


def test_a_mapping_that_is_not_in_order_keeps_its_letters():
    options = {"B": "Rome", "A": "Oslo"}
    assert judge_choice(case("It is Oslo.", "A", options=options))["choice"] == 1
    assert judge_choice(case("Rome", "A", options=options))["choice"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("unit", HOSTILE)
def test_no_text_raises_or_takes_more_than_linear_time(unit):
    choices = {"A": "Rome", "B": "5", "C": "奥斯陆", "D": ""}
    assert seconds_for(lambda text: chosen_letter(text, choices), unit) < 5
