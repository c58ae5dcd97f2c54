from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.data.formats.rows import A, S, U, check_conversion, check_reading, one

from instil.conversation import Message
from instil.data import read, write
from instil.errors import DataError

READ: list[tuple[Any, tuple[Message, ...]]] = [
    ({"instruction": "i", "input": "", "output": "o"}, (U("i"), A("o"))),
    ({"instruction": "i", "input": "n", "output": "o"}, (U("i\nn"), A("o"))),
    ({"instruction": "i", "context": "c", "response": "o", "category": "x"}, (U("i\nc"), A("o"))),
    (
        {"instruction": "i", "input": None, "output": "o", "system": "s", "history": [["q", "a"]]},
        (S("s"), U("q"), A("a"), U("i"), A("o")),
    ),
    ({"instruction": "i", "instances": [{"input": "n", "output": "o"}]}, (U("i\nn"), A("o"))),
]


@pytest.mark.parametrize(("row", "messages"), READ)
def test_rows_are_recognised_and_read(row: Any, messages: tuple[Message, ...]) -> None:
    check_reading(row, messages, format="alpaca")


@pytest.mark.parametrize(("row", "messages"), READ)
@pytest.mark.parametrize("through", ["messages", "sharegpt"])
def test_rows_survive_conversion_there_and_back(
    row: Any, messages: tuple[Message, ...], through: str, tmp_path: Path
) -> None:
    check_conversion(row, tmp_path, format="alpaca", through=through)


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"instruction": "i", "output": "o", "history": [["q"]]}, "something other than pairs"),
    ],
)
def test_rows_that_cannot_be_read_are_refused_with_their_place(row: Any, error: str) -> None:
    with pytest.raises(DataError, match=error) as caught:
        one(row)
    assert str(caught.value).startswith("a.jsonl:1: ")


def test_alpaca_finds_instruction_and_input_again(tmp_path: Path) -> None:
    row = {"instruction": "i", "input": "n", "output": "o"}
    write([one(row)], tmp_path / "a.jsonl", format="sharegpt")
    write(read(tmp_path / "a.jsonl"), tmp_path / "b.jsonl", format="alpaca")
    assert json.loads((tmp_path / "b.jsonl").read_text()) == row
