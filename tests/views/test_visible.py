"""Claims about text made visible: one line, nothing that a terminal obeys, scripts and emoji as they are."""

from __future__ import annotations

import pytest

from instil.views.visible import plain, shortened, visible

CASES = [
    # text           visible         plain
    ("a b", "a·b", "a b"),
    ("a\tb\r\n", "a→b␍↵", "a→b␍↵"),
    ("a\u00a0b", "a⍽b", "a⍽b"),  # a no-break space is shown even where a space is not
    ("\x1b[31mred", "␛[31mred", "␛[31mred"),
    ("\x00\x7f", "␀␡", "␀␡"),
    ("\x9b31m", "⟨009B⟩31m", "⟨009B⟩31m"),  # the one-byte escape sequence of eight-bit terminals
    ("abc\u202edef", "abc⟨202E⟩def", "abc⟨202E⟩def"),  # right-to-left override
    ("\ufeffa", "⟨FEFF⟩a", "⟨FEFF⟩a"),
    ("a\u2028b", "a⟨2028⟩b", "a⟨2028⟩b"),
    ("\ud83d", "⟨D83D⟩", "⟨D83D⟩"),  # half a surrogate pair, which cannot be printed
    ("👩\u200d🔧 می\u200cخواهم", "👩\u200d🔧·می\u200cخواهم", "👩\u200d🔧 می\u200cخواهم"),
]


@pytest.mark.parametrize(("text", "signs", "with_spaces"), CASES)
def test_every_character_that_would_move_or_recolour_text_is_a_sign(text, signs, with_spaces):
    assert visible(text) == signs
    assert plain(text) == with_spaces
    assert len(plain(text).splitlines()) == 1


@pytest.mark.parametrize(
    ("length", "cut"), [(10, "abcdefghij"), (9, "abcd…ghij"), (8, "abcd…hij"), (2, "a…"), (1, "…")]
)
def test_a_long_text_is_cut_in_the_middle_to_the_length(length, cut):
    assert shortened("abcdefghij", length) == cut
    assert len(cut) == length


def test_the_length_counts_the_signs_not_the_characters():
    assert shortened("\u202e" * 3, 6) == "⟨20…E⟩"
