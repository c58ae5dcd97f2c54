"""Sampling settings: what is allowed, and what is greedy."""

from __future__ import annotations

import re

import pytest

from instil.errors import GenerationError
from instil.generation.settings import SamplingSettings


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("temperature",        -0.1,     "0 or more"),
        ("top_k",              0,        "1 or more, or none"),
        ("top_p",              0.0,      "above 0, at most 1"),
        ("top_p",              1.1,      "above 0, at most 1"),
        ("min_p",              1.0,      "0 or more, below 1"),
        ("repetition_penalty", 0.0,      "above 0"),
        ("max_new_tokens",     0,        "1 or more"),
        ("seed",               2**63,    "0 to 2^63 - 1, or none"),
        ("num_answers",        0,        "1 or more"),
        ("stop",               ("a", ""), "a list of strings that are not empty"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused_with_its_name_first(name, value, allowed):
    with pytest.raises(GenerationError, match=rf"^{name}: .*\. Expected {re.escape(allowed)}\."):
        SamplingSettings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", 0.0), ("top_k", 1), ("top_p", 1.0), ("min_p", 0.0), ("max_new_tokens", 1), ("seed", 2**63 - 1)],
)
def test_the_bounds_themselves_are_allowed(name, value):
    assert getattr(SamplingSettings(**{name: value}), name) == value


def test_only_a_temperature_of_zero_is_greedy():
    assert SamplingSettings(temperature=0, top_k=5).greedy
    assert not SamplingSettings(temperature=0.01).greedy
