from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instil.generation.text_stream import TextStream


def decode(ids):
    return bytes(ids).decode("utf-8", "replace")


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_pieces_join_to_the_text_and_hold_only_whole_characters(text):
    stream = TextStream(decode)
    pieces = [stream.push(byte) for byte in text.encode("utf-8")]
    assert all("\N{REPLACEMENT CHARACTER}" not in piece for piece in pieces) or "\N{REPLACEMENT CHARACTER}" in text
    assert "".join(pieces) + stream.finish() == text == stream.text


@pytest.mark.slow
@given(st.text(alphabet="abE", max_size=30), st.lists(st.text(alphabet="abE", min_size=1, max_size=4), max_size=3))
@settings(max_examples=300, deadline=None)
def test_text_is_cut_before_the_first_stop_string(text, stop):
    stream = TextStream(decode, stop=stop)
    out = ""
    for byte in text.encode():
        out += stream.push(byte)
        if stream.stopped:
            break
    out += stream.finish()
    ends = [text.find(string) + len(string) for string in stop if string in text]
    if not ends:
        assert out == text
    else:
        seen = text[: min(ends)]
        assert out == seen[: min(at for at in (seen.find(string) for string in stop) if at >= 0)]
        assert stream.stopped


def test_half_a_character_at_the_end_is_shown_as_what_it_is():
    stream = TextStream(decode)
    assert stream.push(0xE4) == ""
    assert stream.finish() == "\N{REPLACEMENT CHARACTER}"
