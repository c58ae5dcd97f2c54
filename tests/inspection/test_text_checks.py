"""Claims about single texts; the kinds of input are in tests/faults (cells that say nothing, mojibake)."""

from __future__ import annotations

import time

from instil.inspection.text_checks import placeholder_in, says_nothing, without_mojibake


def test_long_texts_are_checked_quickly():
    text = "Der Fluss fließt {nach} Süden [1]. " * 20_000
    start = time.process_time()
    assert not says_nothing(text)
    assert placeholder_in(text) == "{nach}"
    assert without_mojibake(text) == text
    assert time.process_time() - start < 2
