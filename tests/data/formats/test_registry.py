from __future__ import annotations

from typing import Any

import pytest
from tests.data.formats.rows import A, one

from instil.data import read
from instil.data.formats import FORMATS
from instil.data.formats.registry import _recognise, recognise
from instil.errors import DataError, FormatError, RecipeError


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"instuction": "i", "output": "o"}, "Did you mean 'instruction' instead of 'instuction'"),
        (
            {"Question": "q", "Reply": "a"},
            "Map the columns to roles with data.columns, such as .*{Question}.*{Reply}.*, or rename them",
        ),
        ({"title": "t", "summary": "s"}, "found columns title, summary. Expected one of: .*data.columns"),
        ({"role": "user", "text": "t", "message_id": "1", "replies": []}, "found columns role"),
        ({"messages": [{"role": "user", "content": "q"}], "images": ["a.png"]}, "'images' holds image data. Only text"),
        ({}, "found columns none. .*Remove it, or leave it out with data.on_bad_row: skip"),
        ({"instruction": ["i", "j"], "output": ["o", "p"]}, "lists of equal length.*one object per row"),
        ("hello", "found a text. Expected an object"),
        (5, "found a number"),
        (None, "found null"),
        ({"messages": None}, r"found columns messages \('messages' holds null\). Expected one of: .* Fix or remove"),
        ({"data": [{"question": "q", "answer": "a"}]}, r"The rows are inside 'data'\. .*jq -c '\.data\[\]'"),
        ({"instuction": "i", "input": "", "output": "o"}, "Did you mean 'instruction' instead of 'instuction'"),
    ],
)
def test_rows_that_cannot_be_read_are_refused_with_their_place(row: Any, error: str) -> None:
    with pytest.raises(DataError, match=error) as caught:
        one(row)
    assert str(caught.value).startswith("a.jsonl:1: ")


def test_a_named_format_refuses_rows_of_another() -> None:
    with pytest.raises(FormatError, match=r"looks like question_answer \(columns question, answer\), not alpaca"):
        one({"question": "q", "answer": "a"}, "alpaca")
    with pytest.raises(DataError, match=r"message 1 has role 'gpt'\. Expected .*\. Set data.format: sharegpt"):
        one({"messages": [{"role": "gpt", "content": "x"}]}, "messages")
    assert one({"messages": [{"role": "gpt", "content": "x"}]}, "sharegpt").messages == (A("x"),)  # what the error says
    for wrong in ("hello", 5, None, 1.5, [], {}):
        for format in FORMATS:
            options = {"columns": {"assistant": "{a}"}} if format.name == "pattern" else {}
            if (wrong, format.name) != ("hello", "text"):
                with pytest.raises(DataError, match=r"Expected|no column"):
                    one(wrong, format.name, **options)
    with pytest.raises(RecipeError, match="did you mean 'sharegpt'"):
        next(read("x.jsonl", "shareGPT"))


def test_text_that_is_no_list_of_turns_says_nothing_about_the_next_row() -> None:
    turns = '[{"role": "user", "content": "q"}]'
    for column in ("messages", "conversations", "conversation"):
        assert recognise({column: "no list", "id": 1}) is None
        assert recognise({column: turns, "id": 1}) is not None


TURN, SAID = {"role": "user", "content": "a"}, {"from": "human", "value": "a"}
VALUES: list[Any] = ["", "a", '[{"role": "user"}]', 1, None, True, [], ["a"], [TURN], [SAID], [[TURN]], {"a": 1}, [{}], [None]]  # fmt: skip


@pytest.mark.parametrize("first", ["messages", "conversations", "conversation", "prompt", "history", "text", "instruction", "chosen", "question"])  # fmt: skip
@pytest.mark.parametrize("second", ["completion", "output", "answer", "rejected", "messages", "replies"])
def test_a_known_shape_is_recognised_as_the_row_itself_is(first: str, second: str) -> None:
    rows = [{first: one, second: other} for one in VALUES for other in VALUES] * 2
    for row in rows:
        assert recognise(row) == _recognise(row)
