from __future__ import annotations

from typing import Any

import pytest

from instil.conversation import Place
from instil.errors import DataError


def test_a_place_names_source_row_and_part() -> None:
    assert str(Place("a.jsonl", 3)) == "a.jsonl:3"
    assert str(Place("a.jsonl", 3, 0)) == "a.jsonl:3[0]"


@pytest.mark.parametrize("fields", [(5, 1), (None, 1), ("a", None), ("a", "1"), ("a", 1.5), ("a", True), ("a", 1, "0")])
def test_a_place_of_wrong_values_is_a_plain_error(fields: tuple[Any, ...]) -> None:
    with pytest.raises(DataError, match=r"^Place\."):
        Place(*fields)
