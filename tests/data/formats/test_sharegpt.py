from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.data.formats.rows import A, S, U, check_conversion, check_reading, one

from instil.conversation import Message, ToolCall
from instil.errors import DataError

READ: list[tuple[Any, tuple[Message, ...]]] = [
    ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, (U("q"), A("a"))),
    (
        {"conversations": [{"from": "user", "value": "q"}, {"from": "chatgpt", "value": "a"}]},
        (U("q"), A("a")),
    ),
    (
        {"conversations": [{"role": "user", "content": "q"}, {"role": "bard", "content": "a"}]},
        (U("q"), A("a")),
    ),
    ({"messages": [{"from": "human", "value": "q"}, {"from": "bing", "value": "a"}]}, (U("q"), A("a"))),
    ([{"from": "human", "value": "q"}], (U("q"),)),
    ({"conversations": '[{"from": "human", "value": "q"}]'}, (U("q"),)),
    ({"conversation": '[{"role": "user", "content": "q"}]'}, (U("q"),)),
    ({"items": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, (U("q"), A("a"))),
    (
        {"conversation": [{"system": "s", "input": "q", "output": "a"}, {"input": "r", "output": "b", "id": 1}]},
        (S("s"), U("q"), A("a"), U("r"), Message("assistant", "b", extra={"id": 1})),
    ),
    ({"system": "s", "conversations": [{"from": "human", "value": "q"}]}, (S("s"), U("q"))),
    (
        {
            "conversations": [
                {"from": "human", "value": "q"},
                {"from": "function_call", "value": '{"name": "f", "arguments": {"a": 1}}'},
                {"from": "observation", "value": "r"},
                {"from": "gpt", "value": "a", "weight": 0},
            ]
        },
        (
            U("q"),
            Message("assistant", None, tool_calls=(ToolCall("f", {"a": 1}),)),
            Message("tool", "r"),
            Message("assistant", "a", weight=0.0),
        ),
    ),
]


@pytest.mark.parametrize(("row", "messages"), READ)
def test_rows_are_recognised_and_read(row: Any, messages: tuple[Message, ...]) -> None:
    check_reading(row, messages, format="sharegpt")


@pytest.mark.parametrize(("row", "messages"), READ)
@pytest.mark.parametrize("through", ["messages", "sharegpt"])
def test_rows_survive_conversion_there_and_back(
    row: Any, messages: tuple[Message, ...], through: str, tmp_path: Path
) -> None:
    check_conversion(row, tmp_path, format="sharegpt", through=through)


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"conversations": []}, "empty list of turns"),
        ({"conversations": "[1"}, "conversations is not a list of turns"),
        ({"conversations": [{"from": "human", "vaule": "x"}]}, r"message 1 .*did you mean 'value' instead of 'vaule'"),
        ({"conversations": [{"form": "human", "value": "x"}]}, r"message 1 .*did you mean 'from' instead of 'form'"),
        ({"conversation": [{"input": 5, "output": "x"}]}, "message 1 has a number for input"),
        ({"conversations": [{"from": "humann", "value": "x"}]}, "message 1 is from 'humann' .*did you mean 'human'"),
        ({"conversations": [{"from": "function_call", "value": "nope"}]}, "tool call that is not a JSON object"),
        ({"system": "a", "conversations": [{"from": "system", "value": "b"}]}, "a different system turn"),
    ],
)
def test_rows_that_cannot_be_read_are_refused_with_their_place(row: Any, error: str) -> None:
    with pytest.raises(DataError, match=error) as caught:
        one(row)
    assert str(caught.value).startswith("a.jsonl:1: ")
