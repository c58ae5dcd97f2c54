"""Claims about what data warnings say of pairs and judged answers."""

from __future__ import annotations

import pytest

from instil.preparation.data_warnings import data_warnings
from instil.preparation.ledger import Answers, Ledger


def warned(reading, chosen, rejected):
    count = chosen.count + rejected.count
    ledger = Ledger(
        rows_in=count, rows_trained=count, examples=count, reading=reading, chosen=chosen, rejected=rejected
    )
    return {one.kind: one for one in data_warnings(ledger, Ledger(), wants_heldout=False)}


@pytest.mark.parametrize(
    ("chosen", "rejected", "figure"),
    [(100, 60, 1.667), (140, 100, None), (100, 100, None), (60, 100, 0.6), (70, 100, None)],
)
@pytest.mark.parametrize("reading", ["pairs", "judged"])
def test_answers_that_differ_in_length_by_half_are_warned_about(reading, chosen, rejected, figure):
    found = warned(reading, Answers(10, 10 * chosen), Answers(10, 10 * rejected))
    assert (round(found["length_bias"].figure, 3) if found else None) == figure
    if figure:
        assert ("longer" in found["length_bias"].text) == (figure > 1)


def test_judged_answers_need_good_and_bad_ones():
    assert set(warned("judged", Answers(4, 40), Answers())) == {"one_sided"}
    assert "that are judged good" in warned("judged", Answers(), Answers(4, 40))["one_sided"].text
    assert warned("judged", Answers(4, 40), Answers(4, 40)) == {}


def test_held_out_pairs_are_counted_as_pairs():
    heldout = Ledger(
        rows_in=15, rows_trained=15, examples=30, reading="pairs", chosen=Answers(15, 15), rejected=Answers(15, 15)
    )
    (found,) = data_warnings(Ledger(), heldout, wants_heldout=True)
    assert (found.kind, found.figure) == ("few_heldout", 15)
    assert found.text.startswith("15 pairs are held out")
