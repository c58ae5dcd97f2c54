from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.sources.raw_rows import LINES, ROWS, check_refusal, rows_of, zst

from instil.data.sources.json_rows import read_json
from instil.data.sources.rows import parse_row


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", LINES),
        ("a.json", LINES),
        ("a.ndjson", LINES.rstrip()),
        ("a.jsonl", b"\xef\xbb\xbf" + LINES),
        ("a.jsonl", LINES.replace(b"\n", b"\r\n")),
        ("a.json", json.dumps(ROWS).encode()),
        ("a.jsonl", json.dumps(ROWS).encode()),
        ("a.json", json.dumps(ROWS, indent=2, ensure_ascii=False).encode()),
        ("a.json", b"".join(json.dumps(row, indent=1).encode() + b"\n" for row in ROWS)),
        ("a.json", b"\xef\xbb\xbf \n" + json.dumps(ROWS, indent=2).encode() + b"\n\n"),
        ("a.jsonl.gz", gzip.compress(LINES, mtime=0)),
        ("a.json.gz", gzip.compress(json.dumps(ROWS).encode(), mtime=0)),
        ("a.jsonl.zst", zst(LINES[:100]) + zst(LINES[100:])),
        ("a.jsonl.bz2", bz2.compress(LINES)),
        ("a.jsonl.xz", lzma.compress(LINES)),
    ],
)
def test_json_is_read_however_it_is_laid_out(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert rows_of(tmp_path / name) == list(enumerate(ROWS, start=1))


def test_blank_lines_keep_the_numbers_of_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\n{"a": 1}\n  \n\n{"a": 2}')
    assert rows_of(tmp_path / "a.jsonl") == [(2, {"a": 1}), (5, {"a": 2})]


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": }\n', ":2: not valid JSON (expecting value, column 7)"),
        ("a.jsonl", b'{"a": 1}\n{"a": "\xff"}\n', ":2: byte 0xff (number 8 there) is not UTF-8"),
        ("a.jsonl", b'{"a": "x\x00y"}\n', ":1: not valid JSON (a NUL, byte 9: is the file UTF-16"),
        ("a.jsonl", b'{"a": "x\x01y"}\n', ":1: not valid JSON (invalid control character"),
        ("a.jsonl", b'{"a": 1}\n' + bytes(4096), ":2: not valid JSON (a NUL, byte 1"),
        ("a.jsonl", b'{"a": 1}\r{"a": 2}\r', ":1: not valid JSON (several rows on one line: lines end with CR alone"),
        ("a.jsonl", b'{"a": ' + b"1" * 5000 + b"}\n", ":1: holds a number of more than 4,300 digits"),
        ("a.json", b'[\n {"a": 1},\n {"a": }\n]', "[1] (line 3): not valid JSON (expecting value, line 3)"),
        ("a.json", b'[\n{"a": 1}\n{"a": 2}]', "[0] (line 2): not valid JSON (expected , or ], line 3)"),
        ("a.json", b'[\n{"a": 1},\n]', "[0] (line 2): not valid JSON (a comma before ], line 3)"),
        ("a.json", b'[\n{"a": 1},\n{"a": 2}', "[1] (line 3): not valid JSON (expected , or ]"),
        ("a.json", b'[\n{"a": 1}\n] x', "[0] (line 2): not valid JSON (text after the array"),
        ("a.json", b'[{"a": 1}, {"a": }]', "[1]: not valid JSON (expecting value, line 1)"),
        ("a.json", b'[\n{"a": "' + b"x" * 300_000, "[0] (line 2): not valid JSON (unterminated string"),
        ("a.json", b'[\n{"a": "\xff"}]', ":2: byte 0xff"),
    ],
)
def test_faults_are_refused_with_their_place(tmp_path: Path, name: str, data: bytes, error: str) -> None:
    check_refusal(tmp_path / name, data, error)


@pytest.mark.slow
@given(
    st.lists(
        st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=9) | st.none(), max_size=3), min_size=1
    ),
    st.sampled_from([None, 1]),
    st.integers(1, 40),
)
def test_arrays_are_streamed_in_pieces_of_any_size(values: list[Any], indent: int | None, size: int) -> None:
    data = json.dumps([{"row": value} for value in values], indent=indent, ensure_ascii=False).encode("utf-8")

    class Trickle(io.BytesIO):
        def read(self, number: int | None = -1) -> bytes:
            return super().read(size)

    rows = [parse_row(raw, place) for place, raw in read_json(Trickle(data), "a.json")]
    assert rows == [{"row": value} for value in values]


class Endless(io.RawIOBase):
    """Bytes that are made when they are read, so that only the reader holds memory."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        if not self._rest:
            self._rest = next(self._pieces, b"")
        piece, self._rest = self._rest[: len(into)], self._rest[len(into) :]
        into[: len(piece)] = piece
        return len(piece)


@pytest.mark.slow
@pytest.mark.parametrize("array", [True, False])
def test_memory_does_not_grow_with_the_file(array: bool) -> None:
    row = json.dumps({"text": "x" * 500}).encode()

    def pieces() -> Iterator[bytes]:
        yield b"[\n" if array else b""
        for number in range(20_000):
            yield (b",\n" if number and array else b"") + row + (b"" if array else b"\n")
        yield b"]" if array else b"\n"

    stream = io.BufferedReader(Endless(piece for piece in pieces() if piece), 1 << 16)
    tracemalloc.start()
    count = sum(1 for place, raw in read_json(stream, "a.json") if parse_row(raw, place))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 4_000_000


@pytest.mark.slow
@pytest.mark.parametrize("array", [True, False])
def test_a_row_of_fifty_megabytes_is_read(tmp_path: Path, array: bool) -> None:
    text = "x" * 50_000_000
    row = json.dumps({"text": text})
    (tmp_path / "a.json").write_text(f'[\n{{"text": "a"}},\n{row}\n]' if array else f'{{"text": "a"}}\n{row}\n')
    rows = rows_of(tmp_path / "a.json")
    assert [len(value["text"]) for _, value in rows] == [1, 50_000_000]
