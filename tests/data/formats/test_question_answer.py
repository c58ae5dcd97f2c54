from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.data.formats.rows import A, S, U, check_conversion, check_reading, one

from instil.conversation import Message
from instil.errors import DataError

READ: list[tuple[Any, tuple[Message, ...]]] = [
    ({"question": "q", "answer": "a"}, (U("q"), A("a"))),
    ({"question": "q", "answer": 4}, (U("q"), A("4"))),
    ({"system_prompt": "s", "question": "q", "response": "a"}, (S("s"), U("q"), A("a"))),
    ({"input": "q", "output": "a"}, (U("q"), A("a"))),
]


@pytest.mark.parametrize(("row", "messages"), READ)
def test_rows_are_recognised_and_read(row: Any, messages: tuple[Message, ...]) -> None:
    check_reading(row, messages, format="question_answer")


@pytest.mark.parametrize(("row", "messages"), READ)
@pytest.mark.parametrize("through", ["messages", "sharegpt"])
def test_rows_survive_conversion_there_and_back(
    row: Any, messages: tuple[Message, ...], through: str, tmp_path: Path
) -> None:
    check_conversion(row, tmp_path, format="question_answer", through=through)


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"question": "q", "answer": ["a"]}, "column 'answer' holds a list. Expected text"),
        ({"question": "q", "answer": None}, "column 'answer' holds null"),
        ({"question": "q", "answer": [{"role": "assistant", "content": "a"}]}, "column 'answer' holds a list"),
    ],
)
def test_rows_that_cannot_be_read_are_refused_with_their_place(row: Any, error: str) -> None:
    with pytest.raises(DataError, match=error) as caught:
        one(row)
    assert str(caught.value).startswith("a.jsonl:1: ")
