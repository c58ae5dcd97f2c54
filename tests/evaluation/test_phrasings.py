"""Letters and numbers as people write them: a table of phrasings, with what a reader would say."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instil.evaluation.letters import LETTERS, chosen_letter
from instil.evaluation.numbers import final_number

TABLE = Path(__file__).with_name("phrasings.tsv")
"""Columns: kind, expected (``-``: nothing can be told), choices (between ``|``), text.

In a text, ``⏎`` is a line break and ``<U+202F>`` a character by its code point. ``#`` begins a heading.
"""


def phrasings() -> list[tuple[str, str | None, dict[str, str], str]]:
    rows = []
    for line in TABLE.read_text(encoding="utf-8").splitlines()[1:]:
        if line.startswith("# "):
            continue
        kind, expected, choices, text = line.split("\t")
        text = re.sub(r"<U\+([0-9A-F]+)>", lambda match: chr(int(match[1], 16)), text.replace("⏎", "\n"))
        texts = [choice.strip() for choice in choices.split("|")] if choices else []
        by_label = dict(zip(LETTERS, texts, strict=False))
        rows.append((kind, None if expected == "-" else expected, by_label, text))
    return rows


PHRASINGS = phrasings()


@pytest.mark.parametrize(("kind", "expected", "choices", "text"), PHRASINGS)
def test_a_phrasing_is_read_as_a_reader_would(kind: str, expected: str | None, choices: dict[str, str], text: str):
    if kind == "letter":
        assert chosen_letter(text, choices) == expected
    else:
        assert final_number(text) == (None if expected is None else Fraction(expected))


def test_the_table_is_large_and_has_every_kind():
    kinds = Counter((kind, expected is None) for kind, expected, _, _ in PHRASINGS)
    assert len(PHRASINGS) >= 200
    assert min(kinds.values()) >= 15
    assert len(kinds) == 4
    assert len({(text, *choices.values()) for _, _, choices, text in PHRASINGS}) >= len(PHRASINGS) - 2


PIECES = [
    *"0123456789.,-/^*=()[]{}$%_'ABCab \n−½²",
    "\\boxed{",
    "\\frac",
    "####",
    "e9",
    "answer is ",
    "or ",
    "not ",
    "答案",
]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=30).map("".join)))
def test_no_text_raises(text: str):
    number, letter = final_number(text), chosen_letter(text, {"A": text, "B": "", "C": "0"})
    assert number is None or number.denominator > 0
    assert letter in {None, "A", "B", "C"}
