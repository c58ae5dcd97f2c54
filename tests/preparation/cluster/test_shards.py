"""Claims about shards: a result comes back as it was, a file is whole or not there, one process fills a folder."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.preparation.encoder_of_bytes import EncoderOfBytes

from instil.conversation import Place
from instil.data.formats.row_format import ReadOptions
from instil.errors import DataError
from instil.preparation.chunks import Chunk
from instil.preparation.cluster import shards
from instil.preparation.cluster.shards import Shards, read_shard, write_shard
from instil.preparation.encode_rows import EncodedChunk, SourceWork, Work, encode_chunk
from instil.reporting.stores import stored_in

KEY = "0" * 32


def encoded() -> EncodedChunk:
    rows: list[Any] = [
        {"question": "a?", "answer": "<think>so</think>b"},
        {"question": "REFUSE", "answer": "x"},
        {"mesages": 1},
        {"messages": [{"role": "user", "content": "\u2028ü"}, {"role": "assistant", "content": "c"}]},
        {"question": "long", "answer": "x" * 3000},
    ]
    places = tuple(
        Place("b.jsonl" if n > 2 else "a.jsonl", n + 1, line=9 if n == 4 else None) for n in range(len(rows))
    )
    work = Work((SourceWork("auto", ReadOptions(), 0.5, 1.0),), "skip")
    whole = encode_chunk(Chunk(0, places, tuple(rows)), EncoderOfBytes(), work)
    assert whole.failures
    assert whole.candidates
    return dataclasses.replace(
        whole, misspelt=((0, "wieght", "weight"),), dropped_text=((1, ("a", "b")),), rendered=((2, "chatml"),)
    )


def test_a_result_comes_back_as_it_was(tmp_path: Path) -> None:
    before = encoded()
    write_shard(tmp_path / "0.arrow", before)
    after = read_shard(tmp_path / "0.arrow")
    assert after is not None
    compared = 0
    for field in dataclasses.fields(before):
        one, other = getattr(before, field.name), getattr(after, field.name)
        assert type(one) is type(other), field.name
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            assert one.tolist() == other.tolist()
        elif field.name == "batch":
            assert one.equals(other, check_metadata=True)
        else:
            assert one == other, field.name
        compared += 1
    assert compared == 16
    assert os.listdir(tmp_path) == ["0.arrow"]


@pytest.mark.parametrize("kept", [0, 100, 2000])
def test_a_damaged_file_is_no_result(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "0.arrow"
    write_shard(path, encoded())
    path.write_bytes(path.read_bytes()[:kept])
    assert read_shard(path) is None


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards, "sync_path", full)
    with pytest.raises(OSError, match="No space"):
        write_shard(tmp_path / "0.arrow", encoded())
    assert os.listdir(tmp_path) == []


def test_shards_of_the_same_inputs_are_found_and_others_removed(tmp_path: Path) -> None:
    store = tmp_path / KEY
    first = Shards(store, inputs="a")
    assert first.num_found == 0
    write_shard(first.path(4), encoded())
    with pytest.raises(DataError, match="another process prepares the same data"):
        Shards(store, inputs="a")
    assert [one.state for one in stored_in([tmp_path], needed={})] == ["in use"]
    first.close()
    assert [one.state for one in stored_in([tmp_path], needed={})] == ["left over"]
    again = Shards(store, inputs="a")
    assert again.num_found == 1
    assert again.read(4) is not None
    again.close()
    other = Shards(store, inputs="b")
    assert other.num_found == 0
    other.remove()
    assert os.listdir(tmp_path) == []


def test_a_folder_without_a_shard_goes_with_those_that_were_made_for_it(tmp_path: Path) -> None:
    Shards(tmp_path / "new" / KEY, inputs="a").close()
    assert os.listdir(tmp_path) == []


def test_a_shard_that_is_not_seen_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "APPEARS_WITHIN", 0.0)
    folder = Shards(tmp_path / KEY, inputs="a")
    with pytest.raises(DataError, match=r"not seen here\. Expected one folder for all nodes\. Set data\.store"):
        folder.read(0)
    folder.close()
