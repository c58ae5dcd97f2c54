"""Claims about pieces: they are cut where chunks are cut, and reading one gives the chunk's rows and places."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from instil.errors import DataError
from instil.preparation import chunks
from instil.preparation.chunks import Input, cut_source, find_input
from instil.preparation.cluster import pieces
from instil.preparation.cluster.pieces import Cutters, Piece, SourceCutter, read_piece
from instil.recipe import Source


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (chunks, pieces):
        monkeypatch.setattr(module, "CHUNK_ROWS", 7)
        monkeypatch.setattr(module, "CHUNK_BYTES", 300)


def input_of(path: Path, **settings: Any) -> Input:
    return find_input(Source(path=str(path), **settings), heldout=False, spool=path)


def fed(source: Input, *, block: int) -> SourceCutter:
    cutter = SourceCutter(3, source)
    for path, _ in source.files:
        data = path.read_bytes()
        for start in range(0, len(data), block):
            cutter.watch(path, data[start : start + block])
        cutter.watch(path, b"")
    return cutter


def lines(random_: random.Random, number: int) -> bytes:
    kinds = [b"\n", b"  \r\n", b"\t\n"]
    return b"".join(
        random_.choice(kinds)
        if random_.random() < 0.3
        else json.dumps({"text": "é" * random_.randrange(120)}, ensure_ascii=False).encode()
        + random_.choice([b"\n", b"\r\n"])
        for _ in range(number)
    )


def test_pieces_hold_the_rows_of_chunks_whatever_the_blocks_and_files(tmp_path: Path) -> None:
    random_ = random.Random(0)
    looked_at = across_files = 0
    for case in range(60):
        folder = tmp_path / str(case)
        folder.mkdir()
        for number in range(random_.randrange(1, 4)):
            mark = b"\xef\xbb\xbf" if random_.random() < 0.3 else b""
            row = b'{"text": "first"}\n'
            data = mark + row + lines(random_, random_.randrange(40))
            (folder / f"{number}.jsonl").write_bytes(data[: len(data) - random_.randrange(2)])
        source = input_of(folder)
        expected = list(cut_source(3, source))
        for block in (1 << 20, 4096):
            found = fed(source, block=block).pieces
            assert found is not None
            assert [read_piece(piece) for piece in found] == expected
            assert [piece.num_rows for piece in found] == [len(chunk.rows) for chunk in expected]
            across_files += sum(len(piece.spans) > 1 for piece in found)
            looked_at += len(found)
    assert looked_at > 300
    assert across_files > 20


def test_a_row_longer_than_the_blocks_is_one_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(b'{"text": "%s"}\n' % (b"x" * 5000) for _ in range(3)) + b'{"text": "end"}')
    source = input_of(path)
    found = fed(source, block=6000).pieces
    assert found is not None
    assert [read_piece(piece) for piece in found] == list(cut_source(3, source))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.json", b'[{"text": "a"},\n{"text": "b"}]', "a.json: it is one JSON array or has rows of several lines"),
        ("a.csv", b"text\na\n", "a.csv: it is a csv file"),
        ("a.jsonl.gz", b"", "a.jsonl.gz: it is compressed"),
        ("a.jsonl", '{"text": "größer"}\n'.encode("utf-16"), "a.jsonl: its encoding is UTF-16"),
        ("a.jsonl", b"", "a file has no row"),
        ("a.jsonl", b"\n \n", "a file has no row"),
    ],
)
def test_what_cannot_be_cut_says_why(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    source = input_of(path)
    assert Cutters([source]).pieces_of(0, source) == reason


def test_a_file_whose_hash_is_known_is_cut_too(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_bytes(b'{"text": "a"}\n' * 10)
    source = input_of(tmp_path)
    cutters = Cutters([source, source])
    path = source.files[1][0]
    cutters.watch(path, path.read_bytes())  # the first file was hashed before
    cutters.watch(path, b"")
    cut = cutters.pieces_of(1, source)
    assert [piece.num_rows for piece in cut if isinstance(piece, Piece)] == [7, 7, 6]


def test_a_file_that_changed_or_is_not_there_is_refused_with_the_machine(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n' * 10)
    cut = fed(input_of(path), block=4096).pieces
    assert cut is not None
    path.write_bytes(b'{"text": "a"}\n' * 9 + b'{"text": "b"}\n')
    assert len(read_piece(cut[0]).rows) == 7
    with pytest.raises(DataError, match=r"a.jsonl: the machine .* reads other bytes there than were hashed before"):
        read_piece(cut[1])
    path.unlink()
    with pytest.raises(DataError, match=r"a.jsonl: cannot be read on the machine .*\(No such file or directory\)"):
        read_piece(cut[0])
