from __future__ import annotations

from fractions import Fraction

import pytest
from tests.evaluation.cases import case

from instil.evaluation.matching import chosen_letter, final_number, judge_choice, judge_exact, judge_number, normalise


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("The Nile", "the nile.", True),
        ('"Oslo"', "Oslo", True),
        ("ﬁne", "fine", True),
        ("a  b\n", "A b", True),
        ("5", "-5", False),
        ("", "a", False),
        ("a, b", "a b", False),
    ],
)
def test_exact_match_forgives_case_space_and_outer_punctuation_only(left, right, same):
    assert judge_exact(case(left, right))["exact_match"] == same
    assert judge_exact(case(left)) is None


def test_strict_is_stricter():
    assert judge_exact(case("oslo", "Oslo")) == {"exact_match": 1.0, "strict": 0.0}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("#### 1,234", 1234),
        ("9 - 4 = 5", 5),
        ("it is -3.5 degrees", Fraction(-7, 2)),
        ("\\boxed{42} of 100", 42),
        ("The answer is 12 because 3*4", 12),
        ("$18.00", 18),
        ("3/4", Fraction(3, 4)),
        ("2-3", 3),
        ("−7", -7),
        ("1/0", None),
        ("no number", None),
        ("chapter 1 has 20%.", 20),
        ("first #### 3\n#### 4", 4),
    ],
)
def test_the_number_that_a_text_arrives_at(text, number):
    assert final_number(text) == number


def test_gsm8k_is_judged_by_the_final_number():
    reference = "He has 3*4=<<3*4=12>>12.\n#### 12"
    assert judge_number(case("So 12 apples.", reference))["numeric"] == 1
    assert judge_number(case("#### 12.0", reference))["numeric"] == 1
    assert judge_number(case("12 apples and 3 pears", reference))["numeric"] == 0
    assert judge_number(case("none", reference)) == {"numeric": 0.0, "has_number": 0.0}
    assert judge_number(case("12", "no number here")) is None


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


def test_normalise_is_idempotent():
    for text in ("«Ça va?»", "...", "  'x'. ", "A\u00a0B"):
        assert normalise(normalise(text)) == normalise(text)
