"""Claims about misspelt keys and roles."""

from __future__ import annotations

import pytest

from instil.data.formats.misspelt_keys import MESSAGE_KEYS, ROW_KEYS, TURN_KEYS, meant_role, misspelt_keys


@pytest.mark.parametrize(
    ("row", "meant"),
    [
        ({"mesages": []}, {"mesages": "messages"}),
        ({"message": [{}]}, {"message": "messages"}),
        ({"converstions": []}, {"converstions": "conversations"}),
        ({"instruction": "a", "outputs": "b"}, {"outputs": "output"}),
        ({"instruction": "a", "input": "", "ouput": "b"}, {"ouput": "output"}),
        ({"Instruction": "a", "output": "b"}, {}),  # read as instruction
        ({"messages": [], "System": "x"}, {"System": "system"}),
        ({"question": "a", "anwser": "b"}, {"anwser": "answer"}),
        ({"prompt": "a", "competion": "b"}, {"competion": "completion"}),
        ({"conversations": [], "systm": "x"}, {"systm": "system"}),
    ],
)
def test_a_misspelt_column_is_named_with_what_was_meant(row, meant):
    assert misspelt_keys(row, ROW_KEYS) == meant


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [], "id": 1, "source": "x", "category": "y", "topic": "z"},
        {"message_id": "a", "parent_id": "b", "text": "c"},
        {"messages": [], "message": "not a list"},
        {"instruction": "a", "output": "b", "context": "c", "outputs": "d"},
        {"question_id": 1, "answer_id": 2, "choices": []},
        {"text": "a", "title": "b", "meta": {}},
    ],
)
def test_columns_of_a_persons_own_are_left_alone(row):
    assert misspelt_keys(row, ROW_KEYS) == {}


def test_keys_of_turns_are_checked_in_their_own_shape():
    assert misspelt_keys({"rol": "user", "content": "a"}, MESSAGE_KEYS) == {"rol": "role"}
    assert misspelt_keys({"from": "human", "vale": "a"}, TURN_KEYS) == {"vale": "value"}
    assert misspelt_keys({"role": "assistant", "content": "a", "tool_call": [{}]}, MESSAGE_KEYS) == {
        "tool_call": "tool_calls"
    }


def test_two_keys_are_never_taken_for_the_same_one():
    assert len(set(misspelt_keys({"mesages": [], "messges": []}, ROW_KEYS).values())) == 1


def test_roles_are_mapped_only_where_they_are_certain():
    assert [meant_role(word) for word in ("Human", "GPT", "asistant", " User ", "sytem")] == [
        "user",
        "assistant",
        "assistant",
        "user",
        "system",
    ]
    assert [meant_role(word) for word in ("narrator", "", 3, None)] == [None, None, None, None]
