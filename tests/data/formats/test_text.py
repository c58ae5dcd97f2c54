from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.data.formats.rows import A, check_conversion, check_reading

from instil.conversation import Message

READ: list[tuple[Any, tuple[Message, ...]]] = [
    ({"text": "t", "meta": {"a": 1}}, (A("t"),)),
    ({"content": "def f(): ...", "lang": "python", "size": 3}, (A("def f(): ..."),)),
]


@pytest.mark.parametrize(("row", "messages"), READ)
def test_rows_are_recognised_and_read(row: Any, messages: tuple[Message, ...]) -> None:
    check_reading(row, messages, format="text")


@pytest.mark.parametrize(("row", "messages"), READ)
@pytest.mark.parametrize("through", ["messages", "sharegpt"])
def test_rows_survive_conversion_there_and_back(
    row: Any, messages: tuple[Message, ...], through: str, tmp_path: Path
) -> None:
    check_conversion(row, tmp_path, format="text", through=through)
