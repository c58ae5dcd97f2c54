"""Claims about stores: made whole, opened again, made again where damaged."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from tests.forks import in_fork
from tests.preparation.encoder_of_bytes import EncoderOfBytes
from tests.preparation.prepared_data import rows, run, save

from instil.data import read
from instil.errors import DataError, RecipeError
from instil.preparation.prepare import prepare
from instil.recipe import Recipe


def test_a_bad_row_after_much_was_written_leaves_nothing_either(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", [*rows(1100), '{"foo": 1}'])  # three chunks, two of them written
    with pytest.raises(DataError, match=r"a\.jsonl:1101: "):
        run(tmp_path / "new" / "folder", sources=path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.jsonl"]


def test_nothing_left_to_train_on_is_an_error(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", ['{"foo": 1}'])
    with pytest.raises(DataError, match=r"no row is left to train on \(unknown format 1\)"):
        run(tmp_path, sources=path, on_bad_row="skip")
    long = save(tmp_path / "long.jsonl", [{"question": "x" * 3000, "answer": "y"}])
    with pytest.raises(DataError, match=r"\(too long 1\)\. .*\. Raise data\.max_tokens, or set data\.too_long"):
        run(tmp_path, sources=long, heldout_share=0)
    with pytest.raises(RecipeError, match=r"data\.sources: found none"):
        run(tmp_path)


def test_the_second_time_the_store_is_opened(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", rows(50))
    first, second = run(tmp_path, sources=path), run(tmp_path, sources=path)
    assert (first.reused, second.reused) == (False, True)
    assert first.folder == second.folder
    assert second.ledger == first.ledger
    save(tmp_path / "a.jsonl", rows(51))
    assert run(tmp_path, sources=path).folder != first.folder
    assert run(tmp_path, sources=path, on_bad_row="skip").folder != first.folder


@pytest.mark.slow
def test_a_killed_preparation_starts_clean(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", rows(3000))
    recipe = Recipe.from_mapping({"data": {"sources": path, "store": str(tmp_path / "store")}})

    def killed() -> None:
        prepare(recipe, EncoderOfBytes(), on_progress=lambda n: n > 700 and os.kill(os.getpid(), signal.SIGKILL))  # type: ignore[arg-type]

    assert in_fork(killed).code == -9
    assert any(entry.name.startswith(".tmp-") for entry in (tmp_path / "store").iterdir())
    prepared = run(tmp_path, sources=path)
    assert prepared.ledger.rows_in == 3000
    assert not any(entry.name.startswith(".tmp-") for entry in (tmp_path / "store").iterdir())


@pytest.mark.parametrize("name", ["examples.arrow", "store.json", "ledger.json", "train.npy"])
def test_a_damaged_store_is_made_again(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / "a.jsonl", rows(50))
    whole = run(tmp_path, sources=path)
    (damaged,) = whole.folder.glob(name)
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    again = run(tmp_path, sources=path)
    assert not again.reused
    assert damaged.read_bytes() == content


def test_a_store_opens_fast_and_holds_little(tmp_path: Path) -> None:
    prepared = run(tmp_path, sources=save(tmp_path / "a.jsonl", rows(300)), heldout_share=0)
    assert isinstance(prepared.train[5].token_ids, np.ndarray)
    assert len(list(read(tmp_path / "a.jsonl"))) == 300
