"""Claims about the number that a text arrives at; more phrasings are in phrasings.tsv."""

from __future__ import annotations

from fractions import Fraction

import pytest
from tests.evaluation.cases import case
from tests.evaluation.hostile_texts import HOSTILE, seconds_for

from instil.evaluation.numbers import final_number, judge_number


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
    ("text", "number"),
    [
        ("1/" + "3" * 5000, None),
        ("7" * 5000, None),
        ("7" * 300, int("7" * 300)),
        ("1e999999999", None),
        ("1e-999999999", None),
        ("9^999999999", None),
        ("2^300", 2**300),
        ("22^300", None),
        ("0^-1", None),
        ("1e300", 10**300),
        ("1e" + "9" * 5000, None),
        ("1" * 5000 + " or rather 12", 12),
    ],
)
def test_a_number_that_would_fill_the_memory_is_not_read(text, number):
    assert final_number(text) == number


@pytest.mark.slow
@pytest.mark.parametrize("unit", HOSTILE)
def test_no_text_raises_or_takes_more_than_linear_time(unit):
    assert seconds_for(final_number, unit) < 5


def test_the_last_number_of_a_long_text_is_found_from_its_end():
    assert final_number("12 apples. " + "no number here. " * 5_000) == 12
    assert final_number("1 " * 20_000 + "and 3 or 4") is None
