from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instil.conversation import Example, Place
from instil.errors import DataError
from instil.preparation.ledger import Ledger
from instil.preparation.store import ExampleStore, pack
from instil.preparation.store_writer import StoreWriter

EXAMPLES = [
    Example([5, 6, 7, 8], [0, 0, 1, 0.5], Place("a.jsonl", 1), (1,), None, 2),
    Example([], [], None),
    Example([9], [0.0], Place("a.jsonl", 2, 1), (1, 3), "kept_last_turns"),
    Example([1, 2, 3], [0.0, 1.0, 1.0], Place("b.jsonl", 7), (0,)),
]


def assert_equal(read: Example, made: Example) -> None:
    assert list(read.token_ids) == list(made.token_ids)
    assert list(read.weights) == list(made.weights)
    assert (read.place, read.turns, read.shortened, read.escaped) == (
        made.place,
        made.turns,
        made.shortened,
        made.escaped,
    )


def write(folder: Path, examples: list[Example] = EXAMPLES) -> Path:
    with StoreWriter(folder, fingerprint="f") as writer:
        writer.write(pack(examples[:2]))
        writer.write(pack(examples[2:]))
        ledgers = {"train": Ledger(rows_in=3), "heldout": Ledger()}
        return writer.finish(train=np.array([3, 0, 0]), heldout=np.array([2]), ledgers=ledgers)


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


@given(st.lists(st.lists(st.sampled_from([0.0, 0.0, 1.0, 0.25]), max_size=9), max_size=6))
def test_any_weights_survive(rows: list[list[float]]) -> None:
    store = ExampleStore.from_examples([Example(list(range(len(row))), row) for row in rows])
    assert [example.weights.tolist() for example in store] == rows
    assert store.trained_weight.tolist() == [sum(row) for row in rows]


def test_weights_must_match_tokens() -> None:
    with pytest.raises(DataError, match="a:1: 1 weights for 2 tokens"):
        pack([Example([1, 2], [0.0], Place("a", 1))])


def test_a_failed_writer_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with StoreWriter(tmp_path / "store", fingerprint="f") as writer:
            writer.write(pack(EXAMPLES))
            raise RuntimeError("the plug is pulled")

    with pytest.raises(RuntimeError, match="plug"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_is_swept_away(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from instil.preparation.store import pack; from instil.preparation.store_writer import StoreWriter; from instil.conversation import Example\n"
        "writer = StoreWriter(sys.argv[1], fingerprint='f').__enter__(); writer.write(pack([Example([1, 2], [0, 1])]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "store")], check=False)
    assert done.returncode == -9
    assert [path.name.startswith(".tmp-store-") for path in tmp_path.iterdir()] == [True]
    with pytest.raises(DataError, match="no complete store"):
        ExampleStore.open(tmp_path / "store")
    write(tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_the_second_of_two_writers_keeps_the_first_store(tmp_path: Path) -> None:
    write(tmp_path / "store")
    before = os.stat(tmp_path / "store" / "examples.arrow").st_ino
    write(tmp_path / "store")
    assert os.stat(tmp_path / "store" / "examples.arrow").st_ino == before


def test_another_version_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "store")
    header = json.loads((folder / "store.json").read_text())
    (folder / "store.json").write_text(json.dumps(header | {"version": 0}))
    with pytest.raises(DataError, match="store of version 0"):
        ExampleStore.open(folder)


def test_packing_and_opening_import_no_pandas() -> None:
    """Its import takes longer than a thousand conversations do; pyarrow imports it behind our back."""
    code = (
        "import sys; from instil.conversation import Example, Place; from instil.preparation.store import ExampleStore, pack, trained_tokens;"
        "batch = pack([Example([5, 6], [0.0, 1.0], Place('a', 1)), Example([7], [0.0])]); trained_tokens(batch);"
        "print(ExampleStore([batch])[1].token_ids.tolist(), 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[7]", "False"]
