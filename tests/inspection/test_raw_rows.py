"""Claims about rows before they are read."""

from __future__ import annotations

from instil.inspection.raw_rows import misspelt_in, turns_of, unknown_roles_in


def test_turns_are_found_in_every_shape_that_has_them():
    row = {"messages": [{"role": "user", "content": "a"}], "mesages": []}
    assert [turn.where for turn in turns_of(row)] == ["message 1"]
    assert [turn.role for turn in turns_of([{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}])] == [
        "user",
        "assistant",
    ]
    assert [turn.where for turn in turns_of({"converstions": [{"from": "gpt", "value": ""}]})] == [
        "converstions: message 1"
    ]
    assert list(turns_of({"instruction": "a", "output": "b"})) == []
    assert list(turns_of("text")) == []


def test_a_role_is_judged_by_the_format_it_stands_in():
    assert unknown_roles_in({"conversations": [{"role": "human", "content": "a"}]}) == []
    assert unknown_roles_in({"messages": [{"role": "human", "content": "a"}]}) == [
        ("message 1", "role 'human' is probably 'user'")
    ]
    assert unknown_roles_in({"messages": [{"role": "narrator", "content": "a"}]}) == [
        ("message 1", "role 'narrator' is unknown")
    ]


def test_misspelt_keys_are_found_in_row_and_turns():
    row = {"messages": [{"role": "user", "content": "a"}, {"rol": "assistant", "content": "b"}], "tolls": []}
    assert misspelt_in(row) == [
        ("row", "key 'tolls' is probably 'tools'"),
        ("message 2", "key 'rol' is probably 'role'"),
    ]


def test_tool_calls_and_weight_0_are_no_empty_answers():
    turns = [
        {"role": "assistant", "content": None, "tool_calls": [{}]},
        {"role": "assistant", "content": "", "weight": 0},
        {"role": "assistant", "content": " "},
        {"role": "assistant", "content": None},
        {"role": "user", "content": ""},
    ]
    assert [turn.is_empty_answer for turn in turns_of({"messages": turns})] == [False, False, True, True, False]
