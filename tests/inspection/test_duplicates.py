"""Claims about near-duplicates."""

from __future__ import annotations

import random
import tracemalloc

from instil.conversation import Place
from instil.inspection.duplicates import NearDuplicates

WORDS = [f"word{number}" for number in range(3000)]


def text(draw, length=120):
    return " ".join(draw.choices(WORDS, k=length))


def test_one_changed_word_in_a_hundred_is_found_with_the_earlier_place():
    draw, seen, found = random.Random(1), NearDuplicates(max_rows=1000), 0
    texts = [text(draw) for _ in range(200)]
    for row, each in enumerate(texts, start=1):
        assert seen.add(each, Place("a.jsonl", row)) is None
    for row, each in enumerate(texts, start=1):
        words = each.split()
        words[draw.randrange(len(words))] = "changed"
        found += seen.add(" ".join(words), Place("b.jsonl", row)) == Place("a.jsonl", row)
    assert found >= 190  # a minimum may change with the word: the estimate is of the share of common runs, not exact


def test_different_texts_are_not_reported():
    draw, seen = random.Random(2), NearDuplicates(max_rows=2000)
    assert [seen.add(text(draw), Place("a.jsonl", row)) for row in range(1500)] == [None] * 1500


def test_texts_of_half_their_words_in_common_are_not_near():
    draw, seen = random.Random(3), NearDuplicates(max_rows=1000)
    start = text(draw, 60)
    assert [seen.add(f"{start} {text(draw, 60)}", Place("a.jsonl", row)) for row in range(100)] == [None] * 100


def test_short_texts_are_not_compared():
    seen = NearDuplicates(max_rows=10)
    assert seen.add("What is 2 + 2?", Place("a", 1)) is None
    assert seen.add("What is 2 + 3?", Place("a", 2)) is None
    assert seen.num_rows == 0


def test_text_without_spaces_is_compared_by_its_characters():
    seen = NearDuplicates(max_rows=10)
    line = "秋天的早晨山上有很多红色的叶子风吹过来的时候它们慢慢地落在小河里流向远方的大海没有人知道它们最后去了哪里"
    assert seen.add(line, Place("a", 1)) is None
    assert seen.add(line + "吗", Place("a", 2)) == Place("a", 1)


def test_memory_stops_growing_at_its_limit_and_says_what_was_not_remembered():
    draw = random.Random(4)
    tracemalloc.start()
    seen = NearDuplicates(max_rows=300, slots=1 << 12)
    first = text(draw)
    seen.add(first, Place("a", 1))
    for row in range(2, 301):
        seen.add(text(draw, 20), Place("a", row))
    before, _ = tracemalloc.get_traced_memory()
    for row in range(301, 601):
        seen.add(text(draw, 20), Place("a", row))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen.num_rows == 300
    assert seen.num_not_remembered == 300
    assert after - before < 20_000
