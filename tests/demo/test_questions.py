"""The test questions are fixed, distinct and short; scoring is exact match after light normalisation."""

from collections import Counter

import pytest

from instil.demo.questions import held_out_questions, held_out_sum, score


def test_questions_are_the_same_every_time_and_distinct():
    first, again = held_out_questions(), held_out_questions()
    assert first == again
    assert len({question.messages for question in first}) == len(first)
    assert 300 <= len(first) <= 450


def test_every_slice_and_task_has_enough_questions():
    slices = Counter(question.slice for question in held_out_questions())
    tasks = Counter(question.task for question in held_out_questions())
    assert min(slices[name] for name in ("single", "second_turn", "system_prompt")) >= 60
    assert set(tasks) == {"question", "translation", "classification", "extraction", "list", "arithmetic", "code"}
    assert min(tasks.values()) >= 10


def test_questions_end_with_the_user_and_only_system_prompt_questions_have_a_system_turn():
    for question in held_out_questions():
        roles = [role for role, _ in question.messages]
        assert roles[-1] == "user"
        assert ("system" in roles) == (question.slice == "system_prompt")
        assert (roles.count("user") > 1) == (question.slice == "second_turn")


def test_second_turn_questions_do_not_say_everything_again():
    second = [question for question in held_out_questions() if question.slice == "second_turn"]
    assert second
    for question in second:
        assert len(question.messages[-1][1]) < 60
        assert len(question.messages) == 3


def test_sums_are_of_held_out_pairs():
    sums = [question for question in held_out_questions() if question.task == "arithmetic"]
    assert sums
    for question in sums:
        text = "".join(c if c.isdigit() else " " for c in question.messages[-1][1]).split()
        assert held_out_sum(int(text[0]), int(text[1])), question


@pytest.mark.parametrize(
    ("prediction", "reference", "cut", "right"),
    [
        ("Oslo", "Oslo", False, True),
        ("oslo.", "Oslo", False, True),
        ("  Oslo \n", "Oslo", False, True),
        ("Oslo, Norway", "Oslo", False, False),
        ("", "Oslo", False, False),
        ("\n Oslo\nSweden", "Oslo", True, True),
        ("Oslo\nSweden", "Oslo", False, False),
        ("Oslo is a city\nOslo", "Oslo", True, False),
        ("- a\n- b", "- a\n- b", False, True),
    ],
)
def test_score(prediction, reference, cut, right):
    assert score(prediction, reference, cut_first_line=cut) is right
