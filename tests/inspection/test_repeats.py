"""Claims about what only all rows together show."""

from __future__ import annotations

from instil.conversation import Conversation, Message, Place
from instil.inspection.repeats import Repeats


def watched(pairs, **how):
    repeats, again = Repeats(**how), []
    for row, (question, answer) in enumerate(pairs, start=1):
        conversation = Conversation((Message("user", question), Message("assistant", answer)))
        again.append(repeats.add([conversation], Place("a.jsonl", row), row_hash=hash((question, answer))))
    return repeats, again


def test_an_exact_duplicate_gives_the_place_of_the_first():
    _, again = watched([("a", "b"), ("c", "d"), ("a", "b")])
    assert again == [None, None, Place("a.jsonl", 1)]


def test_one_long_answer_to_many_questions_is_found_once():
    sorry = "I am sorry, but as a language model I cannot help you with that."
    repeats, _ = watched(
        [(f"question {n}", sorry) for n in range(5)] + [("other", "a quite different answer, of its own")]
    )
    found = list(repeats.findings())
    assert [finding.kind for finding in found] == ["repeated_answer"]
    assert found[0].place == Place("a.jsonl", 1)
    assert found[0].seen.startswith("occurs 5 times, after 5 different questions: I am sorry")


def test_labels_may_repeat_and_so_may_an_answer_to_the_same_question():
    repeats, _ = watched([(f"review {n}", "positive") for n in range(50)])
    assert list(repeats.findings()) == []
    answer = "a long answer that is given to one and the same question, always"
    repeats, _ = watched([("same", answer)] * 9)
    assert list(repeats.findings()) == []


def test_unfinished_answers_of_one_greatest_length_were_cut_by_a_limit():
    words = "every answer here was cut where the limit fell, and so it ends inside of a word " * 10
    cut = [(f"question {n}", (f"{n} " + words)[:500]) for n in range(4)]
    repeats, _ = watched([*cut, ("short", "A short one that ends as it should."), ("other", words[:430])])
    found = list(repeats.findings())
    assert [finding.kind for finding in found] == ["cut_answer"] * 4
    assert "ends at 500 characters, like 4 unfinished answers" in found[0].seen


def test_one_unfinished_answer_to_many_questions_says_nothing_about_a_limit():
    answer = ("an answer without a full stop that is given again and again " * 9).strip()
    repeats, _ = watched([(f"question {n}", answer) for n in range(9)])
    assert [finding.kind for finding in repeats.findings()] == ["repeated_answer"]


def test_what_comes_after_the_memory_is_full_is_counted():
    repeats, again = watched([(f"q{n}", "a") for n in range(5)] + [("q0", "a"), ("q4", "a")], max_rows=3)
    assert repeats.num_not_remembered == 3
    assert again[5:] == [Place("a.jsonl", 1), None]
