"""Claims about the store: examples come back as they were written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.preparation.small_store import EXAMPLES, write

from instil.conversation import Example, Place
from instil.errors import DataError
from instil.preparation.ledger import Ledger
from instil.preparation.store import ExampleStore, pack


def assert_equal(read: Example, made: Example) -> None:
    assert list(read.token_ids) == list(made.token_ids)
    assert list(read.weights) == list(made.weights)
    assert (read.place, read.turns, read.shortened, read.escaped, read.side) == (
        made.place,
        made.turns,
        made.shortened,
        made.escaped,
        made.side,
    )


def test_examples_come_back_as_they_went_in(tmp_path: Path) -> None:
    store = ExampleStore.open(write(tmp_path / "store"))
    assert len(store) == 3
    for read, made in zip(store, [EXAMPLES[3], EXAMPLES[0], EXAMPLES[0]], strict=True):
        assert_equal(read, made)
    assert store[0].token_ids.dtype == np.int32
    assert store[0].weights.dtype == np.float32
    assert store.num_tokens.tolist() == [3, 4, 4]
    assert store.trained_weight.tolist() == [2.0, 1.5, 1.5]
    assert store.ledger == Ledger(rows_in=3)
    heldout = ExampleStore.open(tmp_path / "store", split="heldout")
    assert_equal(heldout[-1], EXAMPLES[2])
    assert heldout.fingerprint != store.fingerprint
    with pytest.raises(IndexError, match="1"):
        heldout[1]


def test_slices_and_selections_are_views() -> None:
    store = ExampleStore.from_examples(EXAMPLES)
    assert [len(example.token_ids) for example in store[1:]] == [0, 1, 3]
    assert store.select([3, 3]).num_tokens.tolist() == [3, 3]
    assert len(ExampleStore.from_examples([])) == 0


def test_the_sides_of_pairs_come_back() -> None:
    pairs = [
        Example([1, 2, 3], [0.0, 1.0, 1.0], side="chosen"),
        Example([1, 4], [0.0, 1.0], side="rejected"),
        Example([7, 8], [0.0, 1.0]),
    ]
    store = ExampleStore.from_examples(pairs)
    assert [example.side for example in store] == ["chosen", "rejected", None]
    assert store.sides.tolist() == [1, -1, 0]
    assert store.sides.dtype == np.int8
    assert store.select([1, 2]).sides.tolist() == [-1, 0]
    assert ExampleStore.from_examples([]).sides.tolist() == []


@given(st.lists(st.lists(st.sampled_from([0.0, 0.0, 1.0, 0.25]), max_size=9), max_size=6))
def test_any_weights_survive(rows: list[list[float]]) -> None:
    store = ExampleStore.from_examples([Example(list(range(len(row))), row) for row in rows])
    assert [example.weights.tolist() for example in store] == rows
    assert store.trained_weight.tolist() == [sum(row) for row in rows]


def test_weights_must_match_tokens() -> None:
    with pytest.raises(DataError, match="a:1: 1 weights for 2 tokens"):
        pack([Example([1, 2], [0.0], Place("a", 1))])


def test_another_version_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "store")
    header = json.loads((folder / "store.json").read_text())
    (folder / "store.json").write_text(json.dumps(header | {"version": 0}))
    with pytest.raises(DataError, match="store of version 0"):
        ExampleStore.open(folder)
