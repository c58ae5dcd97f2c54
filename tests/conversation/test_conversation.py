from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from typing import Any

import pytest

from instil.conversation import EMPTY, Conversation, Example, Message, Place, ToolCall
from instil.data.messages import conversation_from_dict
from instil.errors import DataError


def test_records_can_be_pickled_and_copied() -> None:
    made = Conversation((Message("user", "Hi"),))
    assert pickle.loads(pickle.dumps(made)) == made == copy.deepcopy(made)
    assert EMPTY == {}
    assert list(EMPTY.items()) == []


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_a_notebook_and_the_line_of_a_record_name_the_side(side: Any) -> None:
    plain = Conversation((Message("user", "Hi"), Message("assistant", "Hello.")))
    records = [replace(plain, side=side), Example([1, 2], [0.0, 1.0], side=side)]
    for record, other in zip(records, [plain, Example([1, 2], [0.0, 1.0])], strict=True):
        assert f'<span class="facts">{side} · ' in record._repr_html_()
        assert f"({side}, " in repr(record)
        assert f"({side}" not in repr(other)
        assert f'<span class="facts">{side}' not in other._repr_html_()


def test_dicts_are_read_as_in_a_row_of_a_file() -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"name": "f", "arguments": '{"city": "Hue"}'}],
            "train": False,
        },
        {"role": "function", "content": {"degrees": 30}},
        Message("assistant", "Warm.", weight=0.5),
    ]
    tools = [{"name": "f", "parameters": {}}]
    made = Conversation(messages, tools, variables={"enable_thinking": False})  # type: ignore[arg-type]
    row = [*messages[:3], {"role": "assistant", "content": "Warm.", "weight": 0.5}]
    assert made == conversation_from_dict({"messages": row, "tools": tools, "enable_thinking": False})
    assert made.messages[1] == Message("assistant", None, tool_calls=(ToolCall("f", {"city": "Hue"}),), weight=0.0)
    assert Conversation(iter(messages), tools, made.variables) == made  # type: ignore[arg-type]


def test_messages_that_are_records_are_not_copied() -> None:
    messages = (Message("user", "Hi"),)
    assert Conversation(messages).messages is messages


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"messages": 5}, "conversation: found a number for messages"),
        ({"messages": "Hi"}, "conversation: found a text for messages"),
        ({"messages": {"role": "user", "content": "Hi"}}, "conversation: found an object for messages"),
        ({"messages": []}, "conversation: found an empty list"),
        ({"messages": ()}, "conversation: found an empty list"),
        ({"messages": [{"role": "user", "content": "Hi"}, 5]}, "message 2 is a number"),
        ({"messages": [{"role": "gpt", "content": "Hi"}]}, "message 1 has role 'gpt'"),
        (
            {"messages": [{"role": "gpt", "content": "Hi"}], "place": Place("a.jsonl", 3)},
            "a.jsonl:3: message 1 has role",
        ),
        ({"tools": 5}, "Conversation: tools is not a list"),
        ({"tools": None, "variables": 5}, r"Conversation\.variables: found 5"),
        ({"variables": {5: 6}}, r"Conversation\.variables: found 5.*text as each key"),
        ({"place": "a.jsonl:3"}, r"Conversation\.place: found 'a.jsonl:3'.*Expected a Place"),
        ({"plain": 1}, r"Conversation\.plain: found 1"),
        ({"extra": []}, r"Conversation\.extra: found \[\]"),
    ],
)
def test_a_conversation_of_wrong_values_is_a_plain_error(fields: dict[str, Any], error: str) -> None:
    with pytest.raises(DataError, match=f"^{error}"):
        Conversation(**{"messages": (Message("user", "Hi"),), **fields})
