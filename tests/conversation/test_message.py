from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from instil.conversation import EMPTY, Message, ToolCall
from instil.errors import DataError


def test_empty_defaults_can_be_hashed_and_printed() -> None:
    assert hash(ToolCall("f", EMPTY)) == hash(ToolCall("f", EMPTY))
    assert repr(ToolCall("f", EMPTY)) == "ToolCall(name='f', arguments={}, id=None, extra={})"


def test_the_key_of_reasoning_does_not_make_messages_differ() -> None:
    message = Message("assistant", "4", reasoning="2+2", reasoning_name="thinking")
    assert message == Message("assistant", "4", reasoning="2+2")
    assert message != Message("assistant", "4", reasoning="2*2")


def test_lists_become_tuples() -> None:
    call = ToolCall("f", {})
    part = {"type": "text", "text": "Hi"}
    assert Message("assistant", [part], tool_calls=[call]) == Message("assistant", (part,), tool_calls=(call,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"role": 5}, r"Message\.role: found 5, which is of type int\. Expected system"),
        ({"role": "User"}, r"Message\.role: found 'User'.*did you mean 'user'"),
        ({"role": np.array([1, 2])}, r"Message\.role: found array"),
        ({"content": 5}, r"Message\.content: found 5"),
        ({"content": b"Hi"}, r"Message\.content: found b'Hi'"),
        ({"content": ["Hi"]}, r"Message\.content: found 'Hi'.*Expected parts such as"),
        ({"content": [{"type": "text"}]}, r"Message\.content: .*Expected parts such as"),
        ({"reasoning": 5}, r"Message\.reasoning: found 5"),
        ({"tool_calls": 5}, r"Message\.tool_calls: found 5.*Expected a list of ToolCalls"),
        ({"tool_calls": [{"name": "f"}]}, r"Message\.tool_calls: .*Dicts are read by Conversation"),
        ({"tool_call_id": 5}, r"Message\.tool_call_id: found 5"),
        ({"name": ["f"]}, r"Message\.name: found \['f'\]"),
        ({"weight": -1}, r"Message\.weight: found -1.*at least 0"),
        ({"weight": float("nan")}, r"Message\.weight: found nan"),
        ({"weight": "1"}, r"Message\.weight: found '1'"),
        ({"extra": 5}, r"Message\.extra: found 5.*Expected a mapping"),
        ({"extra": {5: 6}}, r"Message\.extra: found 5.*Expected text as each key"),
        ({"part_weights": [0.5]}, r"Message\.part_weights: found"),
    ],
)
def test_a_message_of_wrong_values_is_a_plain_error(fields: dict[str, Any], error: str) -> None:
    with pytest.raises(DataError, match=f"^{error}"):
        Message(**{"role": "user", "content": "Hi", **fields})


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"name": 5}, r"ToolCall\.name: found 5"),
        ({"name": ""}, r"ToolCall\.name: found ''.*Expected the name"),
        ({"arguments": None}, r"ToolCall\.arguments: found None.*or JSON as text"),
        ({"arguments": [1]}, r"ToolCall\.arguments: found \[1\]"),
        ({"arguments": {5: 6}}, r"ToolCall\.arguments: found 5.*text as each key"),
        ({"id": 5}, r"ToolCall\.id: found 5"),
        ({"extra": "x"}, r"ToolCall\.extra: found 'x'"),
    ],
)
def test_a_call_of_wrong_values_is_a_plain_error(fields: dict[str, Any], error: str) -> None:
    with pytest.raises(DataError, match=f"^{error}"):
        ToolCall(**{"name": "f", "arguments": {}, **fields})
