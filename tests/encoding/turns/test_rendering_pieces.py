from __future__ import annotations

import pytest

from instil.encoding.turns.rendering_pieces import after_prompt, agreement, common_length, joined, piece
from instil.template.tracing import Rendering

HI_ALL = Rendering("<hi><all>", ((1, 3, (0, "content"), 0), (5, 8, (1, "content"), 0)))


@pytest.mark.parametrize(
    ("start", "end", "text", "runs"),
    [
        (0, None, "<hi><all>", ((1, 3, (0, "content"), 0), (5, 8, (1, "content"), 0))),
        (2, 6,    "i><a",      ((0, 1, (0, "content"), 1), (3, 4, (1, "content"), 0))),  # offsets continue
        (3, 5,    "><",        ()),
        (9, None, "",          ()),
    ],
)  # fmt: skip
def test_a_piece_keeps_the_origin_of_every_character(start: int, end: int | None, text: str, runs: object) -> None:
    cut = piece(HI_ALL, start, end)
    assert (cut.text, cut.runs) == (text, runs)


@pytest.mark.parametrize("at", range(10))
def test_pieces_laid_end_to_end_are_the_rendering(at: int) -> None:
    again = joined(piece(HI_ALL, 0, at), piece(HI_ALL, at))
    assert again.text == HI_ALL.text
    assert again.spans(0) == HI_ALL.spans(0)
    assert again.spans(1) == HI_ALL.spans(1)


@pytest.mark.parametrize(
    ("prompt", "text", "pairs", "complete"),
    [
        ("a b", "ab c",  [(0, 0), (2, 1)], True),
        ("ab",  "a b",   [(0, 0), (1, 2)], True),
        ("abx", "aby",   [(0, 0), (1, 1)], False),
        ("ab",  "a",     [(0, 0)],         False),
        ("",    "a",     [],               True),
        (" ",   "a",     [],               True),
    ],
)  # fmt: skip
def test_agreement_without_white_space(prompt: str, text: str, pairs: list[tuple[int, int]], complete: bool) -> None:
    assert agreement(prompt, text) == (pairs, complete)


@pytest.mark.parametrize(
    ("prompt", "text", "at"),
    [
        ("A:",     "A: yes",    2),     # the space is left to generate
        ("A: ",    "A: yes",    3),
        ("A:\n",   "A:  yes",   4),     # the prompt has supplied white space already
        ("A: ",    "A:yes",     2),
        ("B:",     "A: yes",    None),
        ("A: yes", "A:",        None),
        (" ",      "A:",        None),  # nothing to agree on
    ],
)  # fmt: skip
def test_where_the_text_continues_after_the_prompt(prompt: str, text: str, at: int | None) -> None:
    assert after_prompt(prompt, text) == at


@pytest.mark.parametrize(
    ("one", "other", "length"), [("", "", 0), ("a", "", 0), ("ab", "abc", 2), ("abd", "abc", 2), ("x" * 99 + "a", "x" * 99 + "b", 99)]
)  # fmt: skip
def test_the_common_beginning(one: str, other: str, length: int) -> None:
    assert common_length(one, other) == common_length(other, one) == length
