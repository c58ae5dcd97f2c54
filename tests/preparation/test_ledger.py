from __future__ import annotations

import json

import pytest

from instil.errors import DataError
from instil.preparation.ledger import MAX_PLACES, Ledger, Tally


def test_rows_in_must_be_rows_trained_and_left_out() -> None:
    ledger = Ledger(rows_in=3, rows_trained=2, examples=2)
    with pytest.raises(DataError, match="3 rows in, but 2 trained \\+ 0 left out"):
        ledger.assert_balanced()
    ledger.leave_out("too long", "a.jsonl:3")
    ledger.assert_balanced()
    assert ledger.to_json()["rows_left_out"] == 1


def test_every_trained_row_has_an_example() -> None:
    with pytest.raises(DataError, match="1 examples for 2 rows trained"):
        Ledger(rows_in=2, rows_trained=2, examples=1).assert_balanced()


def test_places_are_capped_and_counts_go_on() -> None:
    tally = Tally()
    for number in range(100):
        tally.add(f"a:{number}", example=f"said {number}")
    assert (tally.count, len(tally.places), tally.example) == (100, MAX_PLACES, "said 0")
    tally.add("a:0")
    assert (tally.count, tally.places.count("a:0")) == (101, 1)


def test_the_ledger_survives_json() -> None:
    ledger = Ledger(rows_in=1, notes=["n"], evidence=["e"], formats={"text": 1})
    ledger.leave_out("x", "a:1", example="why")
    ledger.shortened["split"] = Tally(2, ["a:1"])
    assert Ledger.from_json(json.loads(json.dumps(ledger.to_json()))) == ledger


def test_lines_name_what_a_person_must_know() -> None:
    ledger = Ledger(rows_in=2, rows_trained=2, conversations=2, examples=8, tokens=90, conversation_tokens=20)
    ledger.formats = {"alpaca": 1, "text": 1}
    ledger.overlap.add("a:1")
    said = "\n".join(ledger.lines())
    assert "token factor     4.50; the template rewrites history" in said
    assert "1  trained row also held out (a:1)" in said
    assert "formats          alpaca 1, text 1" in said
    assert ledger.lines(used="evaluated")[0] == "rows in          2 = 2 evaluated + 0 left out"


def test_one_is_not_said_as_many() -> None:
    ledger = Ledger(rows_in=1, rows_trained=1, conversations=1, examples=1)
    for tally in (ledger.escaped, ledger.inline_reasoning, ledger.duplicates):
        tally.add("a:1")
    said = "\n".join(ledger.lines())
    assert "1 of 1 conversation" in said
    for words in ("1  typed control token made", "1  row with reasoning", "1  trained row equal to"):
        assert words in said
    ledger.escaped.add("a:2")
    assert "2  typed control tokens made" in "\n".join(ledger.lines())


def test_equal_rows_say_whether_they_are_trained_held_out_or_left_out() -> None:
    ledger = Ledger(rows_in=5, rows_trained=5)
    ledger.duplicates.add("a:4")
    ledger.duplicates.add("a:5")
    assert "  duplicates     2  trained rows equal to an earlier one (a:4, a:5)" in ledger.lines()
    assert "  duplicates     2  held-out rows equal to an earlier one (a:4, a:5)" in ledger.lines(used="evaluated")
    ledger.leave_out("duplicate", "a:4", count=2)
    assert "  duplicates     2  rows equal to an earlier one (a:4, a:5)" in ledger.lines()
