"""Claims about what one conversation shows by itself."""

from __future__ import annotations

import pytest

from instil.conversation import Conversation, Message, ToolCall
from instil.inspection.conversation_checks import check_conversation

PROSE = " ".join(
    f"On day {n} the river rose by {n * 3} feet, and farmer number {n * 7} moved {n} sheep uphill." for n in range(9)
)


def kinds(*turns, **how):
    messages = tuple(Message(role, text) for role, text in turns)
    return [kind for kind, _ in check_conversation(Conversation(messages), **how)]


def test_a_good_conversation_shows_nothing():
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello."), ("user", "Bye"), ("assistant", PROSE)]
    assert kinds(*turns) == []


@pytest.mark.parametrize("answer", ["", "  \n"])
def test_an_empty_answer_is_found(answer):
    assert kinds(("user", "Hi"), ("assistant", answer)) == ["empty_answer"]


def test_a_tool_call_without_text_is_no_empty_answer():
    call = Message("assistant", None, tool_calls=(ToolCall("now", {}),))
    result, answer = Message("tool", "12:00"), Message("assistant", "Noon.")
    assert list(check_conversation(Conversation((Message("user", "Time?"), call, result, answer)))) == []


def test_an_empty_answer_with_weight_0_is_context():
    messages = (
        Message("user", "a"),
        Message("assistant", "", weight=0.0),
        Message("user", "b"),
        Message("assistant", "c"),
    )
    assert list(check_conversation(Conversation(messages))) == []


def test_no_assistant_turn_is_found():
    assert kinds(("user", "Hi")) == ["no_answer"]


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([("user", "a"), ("user", "b"), ("assistant", "c")], "messages 1 and 2 are both from user"),
        ([("user", "a"), ("assistant", "b"), ("assistant", "c")], "messages 2 and 3 are both from assistant"),
        ([("assistant", "b")], "message 1 is an answer without a prompt before it"),
        (
            [("user", "a"), ("system", "s"), ("assistant", "b")],
            "message 2 is a system message in the middle of the conversation",
        ),
        ([("user", "a"), ("assistant", "b"), ("user", "c")], "ends with message 3 from user"),
        (
            [("user", "a"), ("tool", "x"), ("assistant", "b")],
            "message 2 is a tool result without a tool call before it",
        ),
    ],
)
def test_roles_out_of_order_are_reported_with_their_numbers(turns, message):
    found = dict(check_conversation(Conversation(tuple(Message(role, text) for role, text in turns))))
    assert found["role_order"].startswith(message)


@pytest.mark.parametrize("end", ["and then the", "which is why, for instance,", "so that we (", "it was not only —"])
def test_prose_that_ends_inside_a_sentence_looks_cut(end):
    assert kinds(("user", "Hi"), ("assistant", PROSE + " But in the end nobody could say how long it took " + end)) == [
        "cut_answer"
    ]


def test_an_open_code_block_looks_cut():
    assert kinds(("user", "Hi"), ("assistant", "Here:\n```python\nprint(1)\n")) == ["cut_answer"]
    assert kinds(("user", "Hi"), ("assistant", "Here:\n```python\nprint(1)\n```")) == []


@pytest.mark.parametrize(
    "answer",
    [
        "four",
        PROSE + "\n- a last item of a list that goes on for quite a while without any stop",
        PROSE + "\n#### 42",
        PROSE + "\nx = some_function(argument_one, argument_two) + another_one(a) + b",
        PROSE + "\nAnd so it ended, as it began, with a tweet! #Environment #Sustainability",
    ],
)
def test_lists_code_sums_and_short_answers_do_not_look_cut(answer):
    assert kinds(("user", "Hi"), ("assistant", answer)) == []


def test_a_looping_answer_is_found():
    assert kinds(("user", "Hi"), ("assistant", "I do not know what to say. " * 30)) == ["loop"]
    assert kinds(("user", "Hi"), ("assistant", " ".join(str(n) for n in range(300)) + ".")) == []


def test_a_typed_stop_token_is_found_only_when_the_model_has_it():
    turns = [("user", "Hi"), ("assistant", "Hello.</s>")]
    assert kinds(*turns, stop_tokens=("</s>",)) == ["typed_stop"]
    assert kinds(*turns, stop_tokens=("<|im_end|>",)) == []


def test_plain_text_is_only_checked_for_loops():
    assert list(check_conversation(Conversation((Message("assistant", ""),), plain=True))) == []
    looping = Conversation((Message("assistant", "again and again it goes " * 40),), plain=True)
    assert [kind for kind, _ in check_conversation(looping)] == ["loop"]
