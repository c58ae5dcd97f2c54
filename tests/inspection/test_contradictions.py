"""Claims about pairs and judged answers that say the opposite of earlier ones."""

from __future__ import annotations

import pytest

from instil.conversation import Conversation, Message, Place
from instil.inspection.contradictions import Contradictions


def unit(*answers):
    names = ("chosen", "rejected")
    return tuple(
        Conversation((Message("user", "?"), Message("assistant", text)), side=name)
        for text, name in zip(answers, names, strict=False)
    )


@pytest.mark.parametrize(
    ("first", "second", "is_opposite"),
    [
        (("a", "b"), ("b", "a"), True),
        (("a", "b"), ("a", "b"), False),
        (("a", "b"), ("c", "a"), False),
        (("a", "a"), ("a", "a"), False),
        ((" a\n", "b"), ("b", "a"), True),
    ],
)
def test_a_pair_with_its_sides_exchanged_is_found(first, second, is_opposite):
    seen = Contradictions()
    assert seen.add(unit(*first), Place("a.jsonl", 1)) is None
    assert seen.add(unit(*second), Place("a.jsonl", 2)) == (Place("a.jsonl", 1) if is_opposite else None)


def test_memory_is_bounded():
    seen = Contradictions(max_rows=1)
    for number, answers in enumerate([("a", "b"), ("c", "d"), ("d", "c"), ("b", "a")], start=1):
        found = seen.add(unit(*answers), Place("a.jsonl", number))
        assert found == (Place("a.jsonl", 1) if answers == ("b", "a") else None)
