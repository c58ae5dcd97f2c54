from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.data.formats.rows import A, U, check_conversion, check_reading, one

from instil.conversation import Message
from instil.errors import DataError

READ: list[tuple[Any, tuple[Message, ...]]] = [
    ({"messages": [{"role": "user", "content": "q"}]}, (U("q"),)),
    ({"messages": '[{"role": "user", "content": "q"}]'}, (U("q"),)),
    ([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], (U("q"), A("a"))),
    ({"history": [{"role": "user", "content": "q"}], "id": 1}, (U("q"),)),
]


@pytest.mark.parametrize(("row", "messages"), READ)
def test_rows_are_recognised_and_read(row: Any, messages: tuple[Message, ...]) -> None:
    check_reading(row, messages, format="messages")


@pytest.mark.parametrize(("row", "messages"), READ)
@pytest.mark.parametrize("through", ["messages", "sharegpt"])
def test_rows_survive_conversion_there_and_back(
    row: Any, messages: tuple[Message, ...], through: str, tmp_path: Path
) -> None:
    check_conversion(row, tmp_path, format="messages", through=through)


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"messages": [{"role": ["user"], "content": "q"}]}, "message 1 has role a list. Expected system"),
        ({"messages": [{"role": None, "content": "q"}]}, "message 1 has role null. Expected system"),
        ({"messages": [{"role": "user", "content": "q", "weight": 10**400}]}, "message 1 has weight 1000.*at least 0"),
        ({"messages": [{"role": "user", "content": "q"}], "tools": "nope"}, "tools is not a list of JSON objects"),
        (
            {"messages": [{"role": "user", "content": "q"}], "tools": '[{"name": "\\ud800"}]'},
            "tools is not a list of JSON",
        ),
    ],
)
def test_rows_that_cannot_be_read_are_refused_with_their_place(row: Any, error: str) -> None:
    with pytest.raises(DataError, match=error) as caught:
        one(row)
    assert str(caught.value).startswith("a.jsonl:1: ")
