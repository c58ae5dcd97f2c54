from __future__ import annotations

import re

import pytest

from instil.evaluation.answer_words import ANSWER, IS, without_confidence


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("the answer is 5", " 5"),
        ("The correct answer to the question is 5", " 5"),
        ("**Answer:** 5", "** 5"),
        ("answer (in cm): 5", None),
        ("Die Antwort lautet 5", " 5"),
        ("答案应该是5", "5"),
        ("정답은 5", " 5"),
        ("answers vary", None),
        ("unanswered: 5", None),
        ("antworten: 5", None),
    ],
)
def test_what_announces_an_answer(text, rest):
    match = re.search(f"{ANSWER}{IS}", text, re.IGNORECASE)
    assert (match and text[match.end() :]) == rest


@pytest.mark.parametrize(
    "remark",
    [
        "95% confident",
        "Confidence: 90%",
        "confidence level: 0.9",
        "confidence in this answer is 8/10",
        "90 percent sure",
        "置信度：90%",
        "Konfidenz: 95 %",
        "确信度：80%",
        "độ tin cậy: 90%",
    ],
)
def test_a_confidence_is_removed(remark):
    assert without_confidence(f"42. {remark}") == "42. "


@pytest.mark.parametrize("text", ["I am sure 12 is right", "The 3 confident men", "confidence is high", "90% of them"])
def test_what_is_no_confidence_stays(text):
    assert without_confidence(text) == text
