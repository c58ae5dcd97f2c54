"""The bytes of a request: JSON in UTF-8, null as absence, complete characters."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instil.generation.http_api.bodies import flag, of_request, read_body, shown
from instil.generation.http_api.problems import Problem

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=9,
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(JSON)
def test_a_body_is_an_object_without_nulls_at_its_top_or_a_problem(value):
    body = json.dumps(value).encode()
    if not isinstance(value, dict):
        with pytest.raises(Problem, match="Expected an object"):
            read_body(body)
        return
    assert set(read_body(body)) == {key for key, item in value.items() if item is not None}


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_told_on_one_line(body):
    problem = None
    try:
        read_body(body)
    except Problem as raised:
        problem = raised
    assert problem is None or (problem.status == 400 and "\n" not in problem.message and len(problem.message) < 300)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"a": None, "b": 1}, {"b": 1}),
        ({"messages": [{"role": "user", "name": None}]}, {"messages": [{"role": "user"}]}),
        ({"messages": [{"content": [{"type": "text", "text": None}]}]}, {"messages": [{"content": [{"type": "text"}]}]}),
        ({"messages": [{"tool_calls": [{"id": None, "function": {"name": "f", "arguments": {"x": None}}}]}]},
         {"messages": [{"tool_calls": [{"function": {"name": "f", "arguments": {"x": None}}}]}]}),
        ({"tools": [{"strict": None, "function": {"parameters": {"properties": {"x": {"default": None}}}}}]},
         {"tools": [{"function": {"parameters": {"properties": {"x": {"default": None}}}}}]}),
        ({"stop": [None]}, {"stop": [None]}),
        ({"chat_template_kwargs": {"x": None, "y": 1}}, {"chat_template_kwargs": {"y": 1}}),
        ({"logit_bias": {"5": None}}, {"logit_bias": {"5": None}}),
    ],
)  # fmt: skip
def test_nulls_of_the_api_are_absence_and_nulls_of_data_are_data(given, read):
    assert read_body(json.dumps(given).encode()) == read


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"messages": [{"content": "a\ud83d"}]}, "messages[0].content"),
        ({"a": {"b": ["x", "\udc00"]}}, "a.b[1]"),
        ({"\ud83d": 1}, "a key"),
        ({"a": {"\ud83d": 1}}, "a"),
    ],
)
def test_half_a_character_is_told_with_its_place(body, place):
    with pytest.raises(Problem, match="half a surrogate pair") as caught:
        read_body(json.dumps(body).encode())
    assert (caught.value.param, caught.value.message[: len(place)]) == (place, place)


def test_an_emoji_of_two_escapes_and_a_byte_order_mark_are_read():
    assert read_body(b'\xef\xbb\xbf{"a": "\\ud83d\\ude00"}') == {"a": "😀"}


def test_flags_are_true_or_false():
    assert flag({"x": True}, "x")
    assert not flag({}, "x")
    assert flag({}, "x", default=True)
    for value in (1, 0, "true", [], {}):
        with pytest.raises(Problem, match=r"^x: found .* Expected true or false\.$"):
            flag({"x": value}, "x")


def test_what_is_shown_is_short_and_errors_of_rows_become_errors_of_requests():
    for value in ("x" * 500, ["x" * 500], {"a": list(range(500))}, "a\nb"):
        assert len(shown(value)) <= 84
        assert "\n" not in shown(value)
    assert of_request("conversation: x. Expected y. Remove the row.") == "x. Expected y. Fix the request."
    assert of_request("x. Expected y. Shorten it.") == "x. Expected y. Shorten it."
