from __future__ import annotations

from instil.conversation import EMPTY, Message, ToolCall


def test_empty_defaults_can_be_hashed_and_printed() -> None:
    assert hash(ToolCall("f", EMPTY)) == hash(ToolCall("f", EMPTY))
    assert repr(ToolCall("f", EMPTY)) == "ToolCall(name='f', arguments={}, id=None, extra={})"


def test_the_key_of_reasoning_does_not_make_messages_differ() -> None:
    message = Message("assistant", "4", reasoning="2+2", reasoning_name="thinking")
    assert message == Message("assistant", "4", reasoning="2+2")
    assert message != Message("assistant", "4", reasoning="2*2")
