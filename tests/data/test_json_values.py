"""Values of rows as JSON, and the errors for what JSON cannot hold."""

from __future__ import annotations

import datetime
import json
import math
from decimal import Decimal
from uuid import UUID

import pytest

from instil.data.json_values import as_json, json_list_of, json_of
from instil.errors import FormatError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("12.30"), "12.30"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (datetime.datetime(2024, 1, 2, 3), "2024-01-02T03:00:00"),
        (datetime.time(1, 2), "01:02:00"),
    ],
)
def test_what_json_has_no_word_for_is_text(value: object, text: str) -> None:
    assert as_json(value) == text
    assert json.loads(json_of({"a": [value]}, place="rows:1")) == {"a": [text]}


def in_itself() -> list[object]:
    values: list[object] = []
    values.append(values)
    return values


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"x", "column 'a' holds bytes, which"),
        ({"b": [1, {"c": b"x"}]}, "column 'a' holds bytes (a.b[1].c), which"),
        (math.nan, "column 'a' holds NaN, which"),
        ([-math.inf], "column 'a' holds an infinite number (a[0]), which"),
        ("\ud83d", "column 'a' holds half a surrogate pair, which"),
        ({"\ud83d": 1}, "column 'a' holds half a surrogate pair, which"),
        ({(1, 2): 1}, "column 'a' holds a key of type tuple, which"),
        (in_itself(), "column 'a' holds values nested too deeply, or in themselves, which"),
        (object(), "column 'a' holds an object, which"),
    ],
)
def test_what_json_cannot_hold_is_named_with_its_column(value: object, words: str) -> None:
    with pytest.raises(FormatError) as error:
        json_of({"fine": 1, "a": value}, place="rows.parquet:3")
    assert str(error.value).startswith("rows.parquet:3: ")
    assert words in str(error.value)


def test_names_of_columns_are_text_and_lists_are_named_by_their_items() -> None:
    with pytest.raises(FormatError, match="rows:1: found the column 5"):
        json_of({5: 1}, place="rows:1")  # type: ignore[dict-item]
    with pytest.raises(FormatError, match=r"rows:1: holds bytes \(\[1\]\.image\), which"):
        json_list_of([{}, {"image": b"x"}], place="rows:1")
