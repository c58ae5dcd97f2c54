from __future__ import annotations

from typing import Any

import pytest

from instil.data.formats.registry import _recognise, recognise

TURN, SAID = {"role": "user", "content": "a"}, {"from": "human", "value": "a"}
VALUES: list[Any] = ["", "a", '[{"role": "user"}]', 1, None, True, [], ["a"], [TURN], [SAID], [[TURN]], {"a": 1}, [{}], [None]]  # fmt: skip


@pytest.mark.parametrize("first", ["messages", "conversations", "conversation", "prompt", "history", "text", "instruction", "chosen", "question"])  # fmt: skip
@pytest.mark.parametrize("second", ["completion", "output", "answer", "rejected", "messages", "replies"])
def test_a_known_shape_is_recognised_as_the_row_itself_is(first: str, second: str) -> None:
    rows = [{first: one, second: other} for one in VALUES for other in VALUES] * 2
    for row in rows:
        assert recognise(row) == _recognise(row)
