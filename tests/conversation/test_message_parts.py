from __future__ import annotations

from typing import Any

import pytest

from instil.conversation import Message, Place, ToolCall
from instil.conversation.message_parts import (
    kind_of,
    parse_json,
    read_parts,
    read_tool_calls,
    read_tools,
    write_tool_call,
)
from instil.conversation.message_reading import message_from_dict
from instil.data.messages import conversation_from_dict, message_to_dict
from instil.errors import DataError

PLACE = Place("train.jsonl", 412)
BARE = {"name": "f", "parameters": {"type": "object"}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"a": 1}}}]},
            Message("assistant", None, tool_calls=(ToolCall("f", {"a": 1}, "1"),)),
        ),
        (
            {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": "not json"}]},
            Message("assistant", "", tool_calls=(ToolCall("f", "not json"),)),
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            Message("user", ({"type": "text", "text": "a"}, {"type": "text", "text": "b"})),
        ),
        (
            {
                "role": "assistant",
                "content": [
                    {"type": "reasoning", "value": "r"},
                    {"type": "text", "value": "a"},
                    {"type": "tool_call", "value": '{"name": "f", "arguments": {}}'},
                ],
            },
            Message("assistant", "a", reasoning="r", tool_calls=(ToolCall("f", {}),)),
        ),
    ],
)
def test_parts_of_messages_are_read(given: dict, expected: Message) -> None:
    message = message_from_dict(given)
    assert message == expected
    assert message_from_dict(message_to_dict(message)) == message


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}], "'image_url'. Only text"),
        ([{"role": "user", "content": [{"type": "video", "video": "u"}]}], "'video'. Only text"),
        ([{"role": "user", "content": [{"type": "text"}]}], "part 1 has type 'text' without text"),
        ([{"role": "user", "content": ["a", 5]}], "part 2 is a number"),
        ([{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}], "Expected name and arguments"),
        ([{"role": "assistant", "content": "x", "tool_calls": [5]}], "tool call that is not a JSON object"),
    ],
)
def test_bad_parts_are_refused_with_their_place(messages: object, error: str) -> None:
    with pytest.raises(DataError, match=error) as caught:
        conversation_from_dict({"messages": messages}, place=PLACE)
    assert str(caught.value).startswith("train.jsonl:412: message 1")


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        ([{"type": "text", "value": "a"}, {"type": "text", "value": "b"}], "ab"),
        ([{"type": "text", "value": "a"}, {"type": "text", "text": "b"}],
         ({"type": "text", "text": "a"}, {"type": "text", "text": "b"})),
        (["a"], ({"type": "text", "text": "a"},)),
        ([{"type": "input_text", "text": "a", "cache": True}], ({"type": "text", "text": "a", "cache": True},)),
        ([], ""),
    ],
)  # fmt: skip
def test_only_texts_in_one_style_become_one_string(parts: list[Any], content: Any) -> None:
    assert read_parts(parts, where="row 1").content == content


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ({"name": "f", "arguments": '{"a": 1}'}, ToolCall("f", {"a": 1})),
        ('{"name": "f", "arguments": {"a": 1}}', ToolCall("f", {"a": 1})),
        ({"name": "f", "parameters": {"a": 1}}, ToolCall("f", {"a": 1})),
        ({"name": "f", "arguments": {}, "parameters": 1}, ToolCall("f", {}, extra={"parameters": 1})),
        ({"name": "f", "arguments": None, "id": 7}, ToolCall("f", {}, "7")),
        ({"name": "f", "arguments": [1, "é"]}, ToolCall("f", '[1, "é"]')),
        ({"name": "f", "arguments": "[1]"}, ToolCall("f", "[1]")),
        ({"name": "f", "index": 0}, ToolCall("f", {}, extra={"index": 0})),
        (
            {"type": "function", "index": 0, "function": {"name": "f", "arguments": "{}", "strict": True}},
            ToolCall("f", {}, extra={"index": 0, "function.strict": True}),
        ),
    ],
)
def test_calls_are_read_in_every_shape_and_lose_no_key(call: Any, expected: ToolCall) -> None:
    assert read_tool_calls(call, where="row 1") == (expected,)
    assert read_tool_calls([call], where="row 1") == (expected,)
    assert read_tool_calls(write_tool_call(expected), where="row 1") == (expected,)


def test_empty_tools_are_no_tools() -> None:
    for tools in ([], "[]", None, "", "{}"):
        assert conversation_from_dict({"messages": [{"role": "user", "content": "x"}], "tools": tools}).tools == ()


@pytest.mark.parametrize("tools", [BARE, [BARE], {"type": "function", "function": BARE}])
def test_bare_functions_are_wrapped(tools: Any) -> None:
    assert read_tools(tools, where="row 1") == ({"type": "function", "function": BARE},)


def test_values_are_named_in_the_words_of_json() -> None:
    values = (None, True, "a", 4, 0.5, {}, [], b"")
    assert [kind_of(value) for value in values] == [
        *("null", "true", "a text", "a number", "a number", "an object", "a list", "bytes"),
    ]


def test_json_that_a_row_is_refused_for_is_no_json_inside_it() -> None:
    assert parse_json('{"a": 1}') == {"a": 1}
    for text in ("nope", '{"a": 1, "a": 2}', "[NaN]", '"\\ud800"', "[" * 300 + "]" * 300):
        assert parse_json(text) is None
