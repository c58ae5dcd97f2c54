"""A place in a text: what stands there, what is missing, and what can never be there."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instil.encoding.turns.call_cursor import Cursor, MoreTextNeededError, NoCallError, read_json, value_of


def cursor(text: str, *, final: bool = False) -> Cursor:
    return Cursor(text, 0, tools=("f",), final=final)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=8,
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), st.text(max_size=6), st.booleans())
def test_json_is_read_to_its_end_and_not_further(value, rest, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    place = cursor(text + rest)
    assert place.json() == value
    assert place.at == len(text)
    for end in range(len(text)):
        with pytest.raises(MoreTextNeededError):
            cursor(text[:end]).json()
        with pytest.raises(NoCallError):
            cursor(text[:end], final=True).json()


@pytest.mark.parametrize(
    "text",
    ["x", '"a"', "3", "{1}", '{"a": NaN}', '{"a": 1, "a": 2}', '{"a": "\n"}', '{"a": "\\ud83d"}', "[1,]", "{]"],
)
def test_what_is_no_json_object_or_list_is_no_call(text):
    with pytest.raises(NoCallError):
        cursor(text + " and more").json()


def test_a_literal_is_skipped_awaited_or_missing():
    place = cursor("<end>rest")
    assert place.skip("<end>")
    assert place.text[place.at :] == "rest"
    assert not place.skip("<end>")
    with pytest.raises(MoreTextNeededError):
        cursor("<en").skip("<end>")
    assert not cursor("<en", final=True).skip("<end>")
    with pytest.raises(NoCallError):
        cursor("other").expect("<end>")


def test_a_name_is_certain_only_when_something_follows():
    assert cursor("f(").name() == "f"
    with pytest.raises(MoreTextNeededError):
        cursor("f").name()
    assert cursor("f", final=True).name() == "f"
    for text in ("fg(", "(", ""):
        with pytest.raises(NoCallError):
            cursor(text, final=True).name()
    assert Cursor("anything ", 0, tools=None, final=False).name() == "anything"


def test_the_end_is_only_that_of_a_complete_text():
    assert cursor(" \n", final=True).ends()
    assert not cursor(" \n").ends()
    assert not cursor(" x", final=True).ends()


def test_values_without_a_type_are_json_or_text():
    assert [value_of(text) for text in ("1", "true", '"a"', "Hà Nội", "NaN", "01")] == [1, True, "a", "Hà Nội", "NaN", "01"]  # fmt: skip
    with pytest.raises(NoCallError):
        read_json("[" * 100_000)
