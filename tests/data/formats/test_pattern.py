from __future__ import annotations

import pytest
from tests.data.formats.rows import A, S, U, one

from instil.errors import DataError, RecipeError


def test_patterns_fill_columns() -> None:
    columns = {"system": "{style}", "user": "{title}[[ ({year})]] {{x}}", "assistant": "{summary}"}
    row = {"title": "T", "year": 1999, "summary": "S", "style": "", "id": 3}
    conversation = one(row, columns=columns)
    assert conversation.messages == (U("T (1999) {x}"), A("S"))
    assert conversation.extra == {"id": 3}
    assert one({**row, "year": None}, columns=columns).messages[0] == U("T {x}")
    assert one({"title": "T", "summary": "S", "style": "brief"}, columns=columns).messages == (
        S("brief"),
        U("T {x}"),
        A("S"),
    )
    with pytest.raises(DataError, match=r"no column 'title' .*did you mean 'titel'"):
        one({"titel": "T", "summary": "S", "style": ""}, columns=columns)
    for bad in ({"user": "{a}"}, {"assistant": "[[{a}"}, {"assistant": "{}"}, {"asistant": "{a}"}):
        with pytest.raises(RecipeError, match="columns"):
            one(row, columns=bad)
