from __future__ import annotations

import copy
import pickle

from instil.conversation import EMPTY, Conversation, Message


def test_records_can_be_pickled_and_copied() -> None:
    made = Conversation((Message("user", "Hi"),))
    assert pickle.loads(pickle.dumps(made)) == made == copy.deepcopy(made)
    assert EMPTY == {}
    assert list(EMPTY.items()) == []
