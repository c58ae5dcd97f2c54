from __future__ import annotations

from typing import Any

import pytest
from tests.data.formats.rows import PLACE, A, S, U, one, sides, silent

from instil.data.formats import recognise
from instil.errors import DataError, FormatError, NoPairError

ROW: dict[str, Any] = {"prompt": "q", "responses": ["middle", "best", "worst"], "scores": [5, 9.5, 1]}
ULTRAFEEDBACK: dict[str, Any] = {
    "source": "evol_instruct",
    "instruction": "q",
    "models": ["a", "b", "c"],
    "completions": [
        {
            "model": name,
            "principle": "helpfulness",
            "response": text,
            "annotations": {"helpfulness": {"Rating": rating, "Rationale": "…"}, "honesty": {"Rating": "3"}},
            "overall_score": score,
            "fine-grained_score": 4.0,
        }
        for name, text, score, rating in (("a", "middle", 5, "3"), ("b", "best", 9.5, "5"), ("c", "worst", 1, "1"))
    ],
    "correct_answers": ["None"],
}


def test_the_best_answer_makes_a_pair_with_each_lower_one_or_with_the_worst() -> None:
    for row in (ROW, ULTRAFEEDBACK):
        pairs = sides(row)
        assert [side.messages for side in pairs] == [
            (*silent(U("q")), A(text)) for text in ("best", "middle", "best", "worst")
        ]
        assert [side.side for side in pairs] == ["chosen", "rejected"] * 2
        assert [side.extra["score_rejected"] for side in pairs] == [5, 5, 1, 1]
        assert {side.extra["score_chosen"] for side in pairs} == {9.5}
        assert [side.messages[1].content for side in sides(row, rejected="worst")] == ["best", "worst"]
        judged = sides(row, "judged")
        assert [(side.messages[1].content, side.side, side.extra["score"]) for side in judged] == [
            ("best", "chosen", 9.5),
            ("middle", "rejected", 5),
            ("worst", "rejected", 1),
        ]


@pytest.mark.parametrize(("answers", "scores"), [("responses", "scores"), ("completions", "ratings"), ("answers", "scores")])  # fmt: skip
def test_columns_may_have_other_names(answers: str, scores: str) -> None:
    row = {"system": "s", "question": "q", answers: ["bad", "good"], scores: ["1", "2"], "id": 7}
    chosen, rejected = sides(row)
    assert chosen.messages == (*silent(S("s"), U("q")), A("good"))
    assert rejected.messages == (*silent(S("s"), U("q")), A("bad"))
    assert chosen.extra == {"id": 7, "score_chosen": 2, "score_rejected": 1}


def test_answers_may_be_messages() -> None:
    answer = {"role": "assistant", "content": "good", "reasoning": "r"}
    row = {"prompt": [{"role": "user", "content": "q"}], "responses": [answer, [{**answer, "content": "bad"}]], "scores": [2, 1]}  # fmt: skip
    chosen, rejected = sides(row)
    assert (chosen.messages[1].reasoning, rejected.messages[1].content) == ("r", "bad")


def test_an_answer_as_good_as_the_best_makes_no_pair() -> None:
    pairs = sides({"prompt": "q", "responses": ["a", "b", "c"], "scores": [5, 5, 3]})
    assert [side.messages[1].content for side in pairs] == ["a", "c"]
    with pytest.raises(NoPairError, match=r"a.jsonl:1: all 2 answers have the score 5\. .*\. Remove the row, or set"):
        sides({"prompt": "q", "responses": ["a", "b"], "scores": [5, 5]})
    with pytest.raises(NoPairError, match=r"a.jsonl:1: responses has 1 of at least 2 answers"):
        sides({"prompt": "q", "responses": ["a"], "scores": [5]})


def test_scores_of_different_kinds_are_never_compared() -> None:
    first, second = {"response": "a", "overall_score": 1, "rating": 2}, {"response": "b", "rating": 1}
    chosen, _ = sides({"prompt": "q", "completions": [first, second]})
    assert (chosen.messages[1].content, chosen.extra["score_chosen"]) == ("a", 2)
    with pytest.raises(DataError, match="completions have no score that all of them share"):
        sides({"prompt": "q", "completions": [first, {"response": "b", "score": 1}]})


def test_ratings_of_annotations_are_averaged_where_there_is_no_score() -> None:
    answers = [
        {"response": text, "annotations": {"helpfulness": {"Rating": rating}, "honesty": {"Rating": "4"}}}
        for text, rating in (("bad", "2"), ("good", "5"))
    ]
    chosen, _ = sides({"instruction": "q", "completions": answers})
    assert (chosen.messages[1].content, chosen.extra["score_chosen"]) == ("good", 4.5)
    answers[0]["annotations"]["honesty"]["Rating"] = "N/A"  # type: ignore[index]
    with pytest.raises(DataError, match="no score that all of them share"):
        sides({"instruction": "q", "completions": answers})


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"scores": [1, 2]}, "scores has 2 values for 3 responses. Expected one each"),
        ({"scores": [1, None, 2]}, r"scores\[1\] is None. Expected a finite number"),
        ({"scores": [1, True, 2]}, r"scores\[1\] is True"),
        ({"scores": [1, "good", 2]}, r"scores\[1\] is 'good'"),
        ({"responses": ["a", "", "c"]}, r"responses\[1\] is empty"),
        ({"responses": ["a", 5, "c"]}, r"responses\[1\] is a number"),
        ({"prompt": None}, r"responses\[1\] is a text, and there is no prompt"),
    ],
)
def test_broken_rows_are_refused_with_their_place(change: dict[str, Any], error: str) -> None:
    with pytest.raises(DataError, match=f"a.jsonl:1: {error}"):
        sides({**ROW, "scores": [1, 5, 2], **change})


def test_supervised_tuning_names_the_objective() -> None:
    for row in (ROW, ULTRAFEEDBACK):
        found = recognise(row)
        assert found is not None
        assert found[0].name == "scored"
        with pytest.raises(FormatError, match=rf"{PLACE}: .* scored answers .*Set training.objective: dpo"):
            one(row)
