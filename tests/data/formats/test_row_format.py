from __future__ import annotations

from typing import Any

import pytest
from tests.data.formats.rows import PLACE, A, U

from instil.conversation import Conversation, Message
from instil.conversation.message_parts import read_tools
from instil.data.formats.row_format import conversation_of, is_list_of, plain_text_of, row_of, text_in
from instil.errors import DataError, FormatError

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def test_columns_that_no_message_came_from_are_kept() -> None:
    row = {"text": "t", "tools": [TOOL], "template_variables": '{"a": 1}', "chat_template_kwargs": {"b": 2}, "id": 7}
    conversation = conversation_of((A("t"),), row, ("text",), PLACE)
    assert conversation == Conversation((A("t"),), (TOOL,), variables={"a": 1, "b": 2}, place=PLACE, extra={"id": 7})
    with pytest.raises(DataError, match=r"a\.jsonl:1: template_variables is not a JSON object"):
        conversation_of((A("t"),), {"template_variables": "nope"}, (), PLACE)
    with pytest.raises(DataError, match=r"a\.jsonl:1: template_variables is a list\. Expected a mapping"):
        conversation_of((A("t"),), {"template_variables": [1]}, (), PLACE)


@pytest.mark.parametrize(
    ("tool", "text"),
    [
        (TOOL, '[{"name": "f", "parameters": {"type": "object"}}]'),
        (TOOL | {"strict": True}, '[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}, "strict": true}]'),
        ({"type": "function", "function": {"name": "f", "type": "x"}}, '[{"type": "function", "function": {"name": "f", "type": "x"}}]'),
    ],
)  # fmt: skip
def test_tools_as_text_are_shortened_only_where_reading_restores_them(tool: dict[str, Any], text: str) -> None:
    row = row_of(Conversation((A("t"),), (tool,)), {"text": "t"}, target="text", tools_as_text=True)
    assert row == {"text": "t", "tools": text}
    assert read_tools(text, where="row 1") == (tool,)


def test_a_column_with_the_name_of_a_written_one_is_refused() -> None:
    with pytest.raises(FormatError, match=r"a column of its own named 'text', which text cannot hold\. .*Rename or"):
        row_of(Conversation((A("t"),), extra={"text": 1}), {"text": "t"}, target="text", tools_as_text=False)


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (Message("assistant", "a", reasoning="r"), "has reasoning on an assistant message"),
        (Message("user", "a", weight=1.0), "has a weight on a user message"),
        (Message("tool", "a", tool_call_id="1"), "has a name or call id on a tool message"),
        (Message("user", "a", extra={"k": 1}), "has the key 'k' on a user message"),
        (Message("user", ({"type": "text", "text": "a"},)), "has content parts on a user message"),
    ],
)
def test_what_is_no_text_is_named(message: Message, found: str) -> None:
    with pytest.raises(FormatError, match=found):
        plain_text_of(message, Conversation((message,)), "text")
    assert plain_text_of(U("a"), Conversation((U("a"),)), "text") == "a"


def test_text_of_a_column() -> None:
    row = {"text": "t", "number": 4, "truth": True, "nothing": None}
    assert text_in(row, "text", PLACE) == "t"
    assert text_in(row, "number", PLACE) == "4"
    assert text_in(row, "nothing", PLACE, empty_for_null=True) == text_in(row, "x", PLACE, empty_for_null=True) == ""
    for column, kind in (("truth", "true"), ("nothing", "null"), ("x", "null")):
        with pytest.raises(DataError, match=rf"a\.jsonl:1: column '{column}' holds {kind}\. Expected text"):
            text_in(row, column, PLACE)


def test_a_list_is_judged_by_its_first_item() -> None:
    assert is_list_of([{"role": "user"}, 5], "role")
    for value in ([], [5], [{"role": "user"}], "role", None):
        assert not is_list_of(value, "role", "content")
