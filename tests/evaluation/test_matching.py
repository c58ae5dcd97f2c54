from __future__ import annotations

from time import process_time

import pytest
from tests.evaluation.cases import case

from instil.evaluation.matching import judge_exact, named_in, normalise


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


def test_normalise_is_idempotent():
    for text in ("«Ça va?»", "...", "  'x'. ", "A\u00a0B"):
        assert normalise(normalise(text)) == normalise(text)


def test_normalising_takes_linear_time():
    # A run of accents takes quadratic time in one piece; so did nested quotes.
    for text in ("a" + "\u0323\u0301" * 20_000, "'." * 50_000):
        begin = process_time()
        normalise(text)
        assert process_time() - begin < 2


@pytest.mark.parametrize(
    ("text", "names", "named"),
    [
        ("the wind", ["in", "win", "the"], ["the"]),
        ("very good", ["good", "very good", ""], ["very good"]),
        ("not good", ["good", "not good"], ["not good"]),
        ("not the dog but the cat", ["dog", "cat"], ["cat"]),
        ("3.5 and -5 and 2/4", ["3", "5", "2", "4"], []),
        ("情感是积极的", ["消极", "积极"], ["积极"]),
        ("답은 파리입니다", ["로마", "파리"], ["파리"]),
        ("co2", ["o2", "co2"], ["co2"]),
    ],
)
def test_a_name_counts_as_a_word_of_its_own(text, names, named):
    assert [names[index] for index in named_in(text, names)] == named
