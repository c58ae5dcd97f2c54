from __future__ import annotations

from instil.conversation import Place


def test_a_place_names_source_row_and_part() -> None:
    assert str(Place("a.jsonl", 3)) == "a.jsonl:3"
    assert str(Place("a.jsonl", 3, 0)) == "a.jsonl:3[0]"
