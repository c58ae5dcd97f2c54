from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from instil.conversation import Conversation, Message, Place
from instil.preparation.split import content_hash, draw, held_out, repeated

BASE = Conversation((Message("user", "q"), Message("assistant", "a")))


def test_the_hash_is_of_what_is_said_and_nothing_else() -> None:
    same = replace(BASE, place=Place("x", 1), extra={"id": 1})
    assert content_hash([same]) == content_hash([BASE])
    others = [
        replace(BASE, messages=BASE.messages[:1]),
        replace(BASE, plain=True),
        replace(BASE, variables={"a": 1}),
        replace(BASE, tools=({"type": "function"},)),
        replace(BASE, messages=(BASE.messages[0], replace(BASE.messages[1], weight=0.5))),
        replace(BASE, messages=(BASE.messages[0], replace(BASE.messages[1], reasoning="r"))),
        replace(BASE, messages=(Message("user", "q9:assistanta"),)),
        replace(BASE, messages=(Message("user", "qa"),)),
    ]
    assert len({content_hash([one]) for one in [BASE, *others]}) == len(others) + 1
    assert content_hash([BASE, BASE]) != content_hash([BASE])


@given(st.lists(st.integers(0, 30), max_size=60), st.floats(0, 0.99), st.integers(0, 20))
def test_the_split_never_parts_equal_rows_or_passes_the_maximum(values: list[int], share: float, maximum: int) -> None:
    hashes = np.array([value * (2**59) for value in values], dtype=np.uint64)
    held = held_out(hashes, np.ones(len(values), dtype=bool), share=share, maximum=maximum)
    assert held.sum() <= maximum
    assert not set(hashes[held].tolist()) & set(hashes[~held].tolist())


def test_duplicates_are_the_later_ones() -> None:
    usable = np.array([False, True, True, True])
    assert repeated(np.array([7, 7, 7, 8], dtype=np.uint64), usable).tolist() == [False, False, True, False]


def test_rows_are_drawn_evenly_and_the_same_every_time() -> None:
    drawn = [draw(range(50), count=10, seed=seed) for seed in range(400)]
    assert all(len(set(one.tolist())) == 10 for one in drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=50)
    assert counts.min() > 40
    assert counts.max() < 130
    assert draw(range(50), count=10, seed=3).tolist() == drawn[3].tolist()
