from __future__ import annotations

import copy
import pickle

from instil.conversation import EMPTY, Conversation, Message, Place, ToolCall


def test_records_can_be_pickled_and_copied() -> None:
    made = Conversation((Message("user", "Hi"),))
    assert pickle.loads(pickle.dumps(made)) == made == copy.deepcopy(made)
    assert EMPTY == {}
    assert list(EMPTY.items()) == []


def test_empty_defaults_can_be_hashed_and_printed() -> None:
    assert hash(ToolCall("f", EMPTY)) == hash(ToolCall("f", EMPTY))
    assert repr(ToolCall("f", EMPTY)) == "ToolCall(name='f', arguments={}, id=None, extra={})"


def test_the_key_of_reasoning_does_not_make_messages_differ() -> None:
    message = Message("assistant", "4", reasoning="2+2", reasoning_name="thinking")
    assert message == Message("assistant", "4", reasoning="2+2")
    assert message != Message("assistant", "4", reasoning="2*2")


def test_a_place_names_source_row_and_part() -> None:
    assert str(Place("a.jsonl", 3)) == "a.jsonl:3"
    assert str(Place("a.jsonl", 3, 0)) == "a.jsonl:3[0]"
