from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.data.formats.rows import A, U, check_conversion, check_reading, one

from instil.conversation import Message
from instil.errors import DataError

READ: list[tuple[Any, tuple[Message, ...]]] = [
    ({"prompt": "p", "chosen": "c", "rejected": "r"}, (U("p"), A("c"))),
    ({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "r"}, (U("q"), A("a"))),
    ({"instruction": "i", "input": "n", "chosen": "c", "rejected": "r"}, (U("i\nn"), A("c"))),
    (
        {"question": "q", "chosen": [{"role": "assistant", "content": "a"}], "rejected": []},
        (U("q"), A("a")),
    ),
    (
        {
            "prompt": "q",
            "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
            "rejected": [],
        },
        (U("q"), A("a")),
    ),
    (
        {
            "prompt": [{"role": "user", "content": "q"}],
            "chosen": [{"role": "assistant", "content": "a"}],
            "rejected": [],
        },
        (U("q"), A("a")),
    ),
    (
        {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"}, "rejected": {}},
        (U("q"), A("a")),
    ),
]


@pytest.mark.parametrize(("row", "messages"), READ)
def test_rows_are_recognised_and_read(row: Any, messages: tuple[Message, ...]) -> None:
    check_reading(row, messages, format="preference")


@pytest.mark.parametrize(("row", "messages"), READ)
@pytest.mark.parametrize("through", ["messages", "sharegpt"])
def test_rows_survive_conversion_there_and_back(
    row: Any, messages: tuple[Message, ...], through: str, tmp_path: Path
) -> None:
    check_conversion(row, tmp_path, format="preference", through=through)


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"chosen": "c", "rejected": "r"}, "there is no prompt"),
        ({"chosen": {"from": "gpt", "value": "a"}, "rejected": {}, "conversations": 5}, "conversations is a number"),
    ],
)
def test_rows_that_cannot_be_read_are_refused_with_their_place(row: Any, error: str) -> None:
    with pytest.raises(DataError, match=error) as caught:
        one(row)
    assert str(caught.value).startswith("a.jsonl:1: ")
