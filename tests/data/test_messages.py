from __future__ import annotations

import pytest

from instil.conversation import Conversation, Message, Place
from instil.data.messages import as_conversation, conversation_from_dict, conversation_to_dict
from instil.errors import DataError

PLACE = Place("train.jsonl", 412)
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def test_row_keys_go_where_they_belong() -> None:
    row = {
        "messages": [{"role": "user", "content": "x"}],
        "tools": '[{"name": "weather", "parameters": {"type": "object"}}]',
        "chat_template_kwargs": {"enable_thinking": False, "id": 3},
        "id": 7,
    }
    conversation = conversation_from_dict(row, place=PLACE)
    assert conversation.tools == (WEATHER,)
    assert conversation.variables == {"enable_thinking": False, "id": 3}
    assert conversation.extra == {"id": 7}
    assert conversation_from_dict(conversation_to_dict(conversation), place=PLACE) == conversation


def test_as_conversation_takes_every_shape() -> None:
    made = Conversation((Message("user", "Hi"),))
    for given in (
        made,
        [{"role": "user", "content": "Hi"}],
        [Message("user", "Hi")],
        {"messages": [{"role": "user", "content": "Hi"}]},
    ):
        assert as_conversation(given) == made
    for bad in ("Hi", 5, []):
        with pytest.raises(DataError, match=r"^found (a text|a number|an empty list of messages)\. Expected"):
            as_conversation(bad)
