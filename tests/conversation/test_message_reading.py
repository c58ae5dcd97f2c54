from __future__ import annotations

import pytest

from instil.conversation import Message, Place, ToolCall
from instil.conversation.message_reading import message_from_dict
from instil.data.messages import conversation_from_dict, message_to_dict
from instil.errors import DataError

PLACE = Place("train.jsonl", 412)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"role": "user", "content": "Hi"}, Message("user", "Hi")),
        ({"role": "function", "name": "f", "content": "1"}, Message("tool", "1", name="f")),
        ({"role": "ipython", "content": "1"}, Message("tool", "1")),
        ({"role": "tool", "content": {"t": 1}}, Message("tool", '{"t": 1}')),
        ({"role": "tool", "content": [1, 2]}, Message("tool", "[1, 2]")),
        ({"role": "assistant", "content": "4", "reasoning": "r"}, Message("assistant", "4", reasoning="r")),
        ({"role": "assistant", "content": "4", "thinking": "r"}, Message("assistant", "4", reasoning="r")),
        ({"role": "assistant", "content": "4", "weight": 0}, Message("assistant", "4", weight=0.0)),
        ({"role": "assistant", "content": "4", "loss_weight": 0.5}, Message("assistant", "4", weight=0.5)),
        ({"role": "assistant", "content": "4", "loss": False}, Message("assistant", "4", weight=0.0)),
        ({"role": "assistant", "content": "4", "refusal": None}, Message("assistant", "4", extra={"refusal": None})),
        (
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            Message("assistant", None, tool_calls=(ToolCall("f", {}),)),
        ),
    ],
)
def test_message_shapes_are_read(given: dict, expected: Message) -> None:
    message = message_from_dict(given)
    assert message == expected
    assert message_from_dict(message_to_dict(message)) == message


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([{"role": "gpt", "content": "x"}], "train.jsonl:412: message 1 has role 'gpt'. Expected .* sharegpt"),
        (
            [{"role": "user", "content": "x"}, {"role": "asistant", "content": "x"}],
            "message 2 .*did you mean 'assistant'",
        ),
        (
            [{"role": "user", "contents": "x"}],
            r"message 1 has keys role, contents \(did you mean 'content' instead of 'contents'\?\)",
        ),
        ([{"role": "user", "content": None}], "message 1 has content null"),
        ([{"from": "human", "value": "x"}], "no role. .*Set data.format: sharegpt"),
        ([{"role": "user", "content": 5}], "a number for content"),
        ([{"role": "assistant", "content": "x", "weight": -1}], "weight -1"),
        ([{"role": "assistant", "content": "x", "weight": float("nan")}], "weight nan"),
        ([{"role": "assistant", "content": "x", "weight": 1, "loss": False}], "two different weights"),
        ([{"role": "assistant", "content": "x", "reasoning": "a", "thinking": "b"}], "two different reasonings"),
        (["hello"], "message 1 is a text"),
        ([], "empty list of messages"),
        (None, "found null for messages"),
    ],
)
def test_bad_messages_are_refused_with_their_place(messages: object, error: str) -> None:
    with pytest.raises(DataError, match=error) as caught:
        conversation_from_dict({"messages": messages}, place=PLACE)
    assert str(caught.value).startswith("train.jsonl:412: ")
