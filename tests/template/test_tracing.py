"""Arithmetic on runs, and the views of a rendering that it gives."""

from __future__ import annotations

import pytest

from instil.template.tracing import Origin, Rendering, cut, mapped, merged, picked, shifted

F, G = (0, "content"), (1, "content.0.text")
#          0123456789
# text     ab--cd--ef   with ab and cd from F, ef from G
RUNS = ((0, 2, F, 0), (4, 6, F, 2), (8, 10, G, 5))


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 10, RUNS),
        (1, 5, ((0, 1, F, 1), (3, 4, F, 2))),
        (2, 4, ()),
        (5, 9, ((0, 1, F, 3), (3, 4, G, 5))),
        (9, 9, ()),
        (9, 99, ((0, 1, G, 6),)),
    ],
)
def test_cut_keeps_what_lies_inside(start, end, expected):
    assert cut(RUNS, start, end) == expected
    assert merged(run for one in RUNS for run in cut((one,), start, end)) == expected  # the path for a single run


def test_shifted_moves_runs_and_not_their_offsets():
    assert tuple(shifted(RUNS[:1], 3)) == ((3, 5, F, 0),)
    assert shifted(RUNS, 0) is RUNS


def test_picked_follows_the_order_of_the_indices():
    assert picked(RUNS, [1, 0, -1, 4, 5, 2]) == ((0, 1, F, 1), (1, 2, F, 0), (3, 5, F, 2))
    assert picked(RUNS, [0, 0]) == ((0, 1, F, 0), (1, 2, F, 0))


def test_mapped_gives_every_new_character_the_origin_of_its_own():
    assert mapped("aß", ((0, 2, F, 0),), str.upper) == ((0, 2, F, 0), (2, 3, F, 1))
    assert mapped("ab", ((1, 2, F, 0),), lambda character: "") == ()


def test_merged_joins_runs_that_touch_in_text_and_source_only():
    assert merged([(0, 1, F, 0), (1, 2, F, 1), (2, 3, F, 3), (3, 4, G, 4), (5, 6, G, 5)]) == (
        *((0, 2, F, 0), (2, 3, F, 3), (3, 4, G, 4), (5, 6, G, 5)),
    )


def test_segments_cover_the_text():
    rendering = Rendering("ab--cd--ef.", RUNS)
    assert rendering.segments == (
        (0, 2, Origin(0, "content", 0)),
        (2, 4, None),
        (4, 6, Origin(0, "content", 2)),
        (6, 8, None),
        (8, 10, Origin(1, "content.0.text", 5)),
        (10, 11, None),
    )
    assert Rendering("").segments == ()
    assert Rendering("x").segments == ((0, 1, None),)


def test_spans_are_those_of_a_message_and_of_the_fields_in_a_field():
    rendering = Rendering("ab--cd--ef.", (*RUNS[:2], (6, 8, F, 9), RUNS[2]))
    assert rendering.spans(0) == [(0, 2), (4, 8)]
    assert rendering.spans(1, "content") == rendering.spans(1, "content.0") == [(8, 10)]
    assert rendering.spans(1, "cont") == rendering.spans(2) == []


def test_renderings_are_equal_where_text_and_segments_are():
    split = Rendering("abc", ((0, 1, F, 0), (1, 2, F, 1)))
    assert split == Rendering("abc", ((0, 2, F, 0),))
    assert hash(split) == hash(Rendering("abc", ((0, 2, F, 0),)))
    assert split != Rendering("abc")
