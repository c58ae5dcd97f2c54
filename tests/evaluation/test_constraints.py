from __future__ import annotations

import pytest
from tests.evaluation.cases import case

from instil.errors import EvaluationError
from instil.evaluation.constraints import CHECKS, judge_constraints

KEPT = [
    ("max_words", 3, "one two three", "one two three four"),
    ("min_words", 2, "one two", "one"),
    ("max_sentences", 1, "One.", "One. Two."),
    ("min_sentences", 2, "One. Two!", "One"),
    ("max_characters", 3, "abc", "abcd"),
    ("num_items", 2, "- a\n- b", "- a"),
    ("num_paragraphs", 2, "a\n\nb", "a\nb"),
    ("must_include", "Nile", "the nile", "the Rhine"),
    ("must_not_include", "Nile", "the Rhine", "the nile"),
    ("starts_with", "Yes", "Yes, so", "No"),
    ("ends_with", "!", "so! ", "so"),
    ("matches", r"^\d+$", "42", "42a"),
    ("json", None, "[1]", "[1"),
    ("no_commas", None, "a b", "a, b"),
    ("upper_case", None, "ABC", "Abc"),
    ("lower_case", None, "abc", "Abc"),
    ("language", "fr", "Le chat est sur la table et il dort dans la maison", "The cat is on the table"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "value", "good", "bad"), KEPT)
def test_constraints_are_checked(kind, value, good, bad):
    constraint = [{"kind": kind, "value": value}]
    assert judge_constraints(case(good, constraints=constraint))["all_kept"] == 1
    assert judge_constraints(case(bad, constraints=constraint))["all_kept"] == 0


def test_a_list_of_words_asks_for_all_of_them_or_for_none():
    judged = [
        judge_constraints(case("Red and blue.", constraints=[{"kind": kind, "value": words}]))["all_kept"]
        for kind in ("must_include", "must_not_include")
        for words in (["red", "blue"], ["red", "green"], ["green", "grey"])
    ]
    assert judged == [1, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    "kind", ["must_include", "must_not_include", "starts_with", "ends_with", "matches", "language"]
)
@pytest.mark.parametrize("value", [None, {"word": "red"}, [1]])
def test_a_value_that_no_answer_could_hold_is_no_score_of_zero(kind, value):
    with pytest.raises(EvaluationError, match=f"the constraint {kind} has the value .* Expected a "):
        judge_constraints(case("None [1]", constraints=[{"kind": kind, "value": value}]))


def test_every_constraint_has_a_case():
    assert {kind for kind, *_ in KEPT} == set(CHECKS)


def test_an_unknown_constraint_is_named_with_the_nearest():
    with pytest.raises(EvaluationError, match="did you mean 'max_words'"):
        judge_constraints(case("x", constraints=[{"kind": "max_word", "value": 1}]))
    with pytest.raises(EvaluationError, match=r"max_words has the value 'many'\. Expected a whole number"):
        judge_constraints(case("x", constraints=[{"kind": "max_words", "value": "many"}]))


@pytest.mark.parametrize("column", ["no commas, please", "[" * 100_000, "{"])
def test_a_column_that_is_no_json_is_an_error_of_the_row(column):
    with pytest.raises(EvaluationError, match="the column constraints is no JSON"):
        judge_constraints(case("x", constraints=column))


def test_a_single_constraint_needs_no_list():
    assert judge_constraints(case("a b", constraints='{"kind": "max_words", "value": 1}'))["all_kept"] == 0
    with pytest.raises(EvaluationError, match="no constraint"):
        judge_constraints(case("x", constraints="5"))
