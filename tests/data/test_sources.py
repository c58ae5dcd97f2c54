from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from instil.conversation import Place
from instil.data.sources.json_rows import read_json
from instil.data.sources.rows import is_hub_id, parse_row, read_raw_rows
from instil.errors import DataError

ROWS = [{"question": f"q{n}", "answer": "é🌈\u2028\r\n"} for n in range(5)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def rows_of(path: Path | str) -> list[tuple[int, Any]]:
    return [(place.row, parse_row(raw, place)) for place, raw in read_raw_rows(str(path))]


def error_of(path: Path | str) -> str:
    with pytest.raises(DataError) as caught:
        rows_of(path)
    return str(caught.value)


def zst(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


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


def table(separator: str) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["question", "answer"], delimiter=separator)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode("utf-8-sig")


def test_tables_are_read(tmp_path: Path) -> None:
    arrow = pa.Table.from_pylist(ROWS)
    (tmp_path / "a.csv").write_bytes(table(","))
    (tmp_path / "a.tsv").write_bytes(table("\t"))
    pq.write_table(arrow, tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "file.arrow"), "wb") as sink, pa.ipc.new_file(sink, arrow.schema) as writer:
        writer.write_table(arrow, max_chunksize=2)
    with pa.OSFile(str(tmp_path / "stream.arrow"), "wb") as sink, pa.ipc.new_stream(sink, arrow.schema) as writer:
        writer.write_table(arrow)
    names = ["a.csv", "a.tsv", "a.parquet", "file.arrow", "stream.arrow"]
    for name in names:
        assert [row for _, row in rows_of(tmp_path / name)] == ROWS, name
    assert [number for number, _ in rows_of(tmp_path / "a.csv")] == [2, 4, 6, 8, 10]
    assert len(rows_of(tmp_path)) == 25
    assert len(rows_of(tmp_path / "*.arrow")) == 10


def test_nulls_that_a_table_filled_in_are_left_out(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "q", "name": None}, {"role": "assistant", "content": "a", "name": "b"}]
    pq.write_table(pa.Table.from_pylist([{"messages": messages, "id": None}]), tmp_path / "a.parquet")
    without = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "name": "b"}]
    assert rows_of(tmp_path / "a.parquet") == [(1, {"messages": without})]


def test_a_folder_is_searched_and_a_saved_data_set_asks_for_its_split(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.jsonl").write_bytes(LINES)
    (tmp_path / "sub" / "a.jsonl").write_bytes(LINES)
    for name in ("README.md", ".hidden.jsonl", "dataset_info.json"):
        (tmp_path / name).write_text("x")
    assert len(rows_of(tmp_path)) == 10
    (tmp_path / "dataset_dict.json").write_text("{}")
    assert "has no split 'train'. Expected one of: sub" in error_of(tmp_path)
    assert sum(1 for _ in read_raw_rows(str(tmp_path), split="sub")) == 5


def test_a_text_file_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    assert rows_of(tmp_path / "a.txt") == [(1, {"text": "one\ntwo\n"})]


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LINES)))
    assert next(place for place, _ in read_raw_rows("-")) == Place("<stdin>", 1)


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("a.jsonl", b"", "holds no row"),
        ("a.json", b"[]", "holds no row"),
        ("a.csv", b"a,b\n", "holds no row"),
        ("a.jsonl", b'{"a": 1}\n{"a": }\n', ":2: not valid JSON (expecting value, column 7)"),
        ("a.jsonl", b'{"a": 1}\n{"a": "\xff"}\n', ":2: byte 0xff (number 8 there) is not UTF-8"),
        ("a.jsonl", b'{"a": "x\x00y"}\n', ":1: not valid JSON (a NUL, byte 9: is the file UTF-16"),
        ("a.jsonl", b'{"a": "x\x01y"}\n', ":1: not valid JSON (invalid control character"),
        ("a.jsonl", '{"a": 1}\n'.encode("utf-16-le"), ":1: not valid JSON (a NUL, byte 2"),
        ("a.jsonl", b'{"a": 1}\n' + bytes(4096), ":2: not valid JSON (a NUL, byte 1"),
        ("a.jsonl", b'{"a": 1}\r{"a": 2}\r', ":1: not valid JSON (several rows on one line: lines end with CR alone"),
        ("a.jsonl", b'{"a": 1e999}\n', ":1: the number 1e999 is too large for a float"),
        ("a.json", b'[{"a": 1e999}]', ":1: the number 1e999 is too large for a float"),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", ": is a Git LFS pointer"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", ": is a Git LFS pointer"),
        ("a.jsonl", b'{"a": 1, "b": 2, "a": 3}\n', ":1: the key 'a' occurs twice"),
        ("a.jsonl", b'{"a": NaN}\n', ":1: found NaN"),
        ("a.jsonl", b'{"a": -Infinity}\n', ":1: found -Infinity"),
        ("a.jsonl", b'{"a": "\\ud83d"}\n', ":1: holds half a surrogate pair"),
        ("a.jsonl", b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", ":1: nested too deeply"),
        ("a.jsonl", b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}\n", ":1: nested too deeply. Expected at most 200 levels"),
        (
            "a.json",
            b'[{"a": ' + b"[" * 900 + b"]" * 900 + b"}]\n",
            ":1: nested too deeply. Expected at most 200 levels",
        ),
        ("a.jsonl", b'{"a": ' + b"1" * 5000 + b"}\n", ":1: holds a number of more than 4,300 digits"),
        ("a.jsonl", '{"a": 1}\n'.encode("utf-16"), "is in UTF-16. Expected UTF-8"),
        ("a.json", b'[\n {"a": 1},\n {"a": }\n]', ":2: not valid JSON (expecting value, line 3)"),
        ("a.json", b'[{"a": 1}, {"a": 1, "a": 2}]', ":2: the key 'a' occurs twice"),
        ("a.json", b'[\n{"a": 1}\n{"a": 2}]', ":1: not valid JSON (expected , or ], line 3)"),
        ("a.json", b'[\n{"a": 1},\n]', ":1: not valid JSON (a comma before ], line 3)"),
        ("a.json", b'[\n{"a": 1},\n{"a": 2}', ":2: not valid JSON (expected , or ]"),
        ("a.json", b'[\n{"a": 1}\n] x', ":1: not valid JSON (text after the array"),
        ("a.json", b'[\n{"a": "' + b"x" * 300_000, ":1: not valid JSON (unterminated string"),
        ("a.json", b'[\n{"a": "\xff"}]', ":2: byte 0xff"),
        ("a.csv", b"a,b\n1,2\n3\n", ":3: has 1 fields. Expected 2, as in the header"),
        ("a.csv", b"a,a\n1,2\n", ":1: the header has 'a' twice"),
        ("a.csv", b'a,b\n1,2\n"x,3\n', ":3: not valid CSV (unexpected end of data)"),
        ("a.csv", b"a,b\n1,\xff\n", ":2: byte 0xff is not UTF-8"),
        ("a.csv", b'a,b\n1,"x\ny \xff"\n', ":3: byte 0xff is not UTF-8"),
        ("a.csv", b"a,b\n1,x\x00\n", ":2: holds a NUL"),
        ("a.txt", b"one\ntw\x00o\n", ":2: holds a NUL"),
        (
            "a.csv",
            b"a;b\n1;2\n",
            ":1: the header is one column, 'a;b', with ';' in it. Expected columns separated by ','",
        ),
        ("a.jsonl.gz", gzip.compress(LINES * 1000)[:-30], "The file is damaged"),
        ("a.jsonl.gz", LINES, "The file is damaged"),
        ("a.jsonl.zst", zst(LINES * 10000)[:60], "The file is damaged"),
        ("a.jsonl.zst", LINES, "The file is damaged"),
        ("a.parquet", LINES, "not a readable Parquet file"),
        ("a.arrow", LINES, "not a readable Arrow file"),
        ("a.parquet.gz", LINES, "Expected it uncompressed"),
        ("a.xlsx", LINES, "unknown kind of file. Expected .json .jsonl"),
    ],
)
def test_faults_are_refused_with_their_place(tmp_path: Path, name: str, data: bytes, error: str) -> None:
    (tmp_path / name).write_bytes(data)
    message = error_of(tmp_path / name)
    assert message.startswith(str(tmp_path / name))
    assert error in message


def test_a_broken_row_does_not_hide_the_next(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a,b\n1,2\n3\n4,5\n")
    raw = [value for _, value in read_raw_rows(str(tmp_path / "a.csv"))]
    assert isinstance(raw[1], DataError)
    assert raw[2] == {"a": "4", "b": "5"}


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(LINES)
    assert "no such file (did you mean 'train.jsonl'?)" in error_of(tmp_path / "trian.jsonl")
    assert "no file matches" in error_of(tmp_path / "*.csv")
    (tmp_path / "empty").mkdir()
    assert "no data file in this folder" in error_of(tmp_path / "empty")


def test_hub_ids_are_told_from_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    assert is_hub_id("openai/gsm8k")
    assert is_hub_id("hf://datasets/openai/gsm8k")
    for path in ("data/rows", "data", "rows.jsonl", "owner/rows.jsonl", "/tmp/x", "a/b/c"):
        assert not is_hub_id(path)


def test_the_hub_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: dict[str, Any] = {}

    def load_dataset(path: str, **options: Any) -> list[dict[str, Any]]:
        asked.update(options, path=path)
        if path == "no/such":
            raise FileNotFoundError("Dataset 'no/such' doesn't exist on the Hub")
        return [{"question": "q", "answer": "a", "none": None}]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    rows = list(read_raw_rows("hf://openai/gsm8k", split="test", subset="main", revision="v1"))
    assert rows == [(Place("openai/gsm8k", 1), {"question": "q", "answer": "a"})]
    assert asked == {"path": "openai/gsm8k", "name": "main", "split": "test", "revision": "v1", "streaming": True}
    with pytest.raises(DataError, match="no/such: no such file or folder, and as a Hub data set it cannot be read"):
        list(read_raw_rows("no/such"))


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


@pytest.mark.parametrize("array", [True, False])
def test_a_row_of_fifty_megabytes_is_read(tmp_path: Path, array: bool) -> None:
    text = "x" * 50_000_000
    row = json.dumps({"text": text})
    (tmp_path / "a.json").write_text(f'[\n{{"text": "a"}},\n{row}\n]' if array else f'{{"text": "a"}}\n{row}\n')
    rows = rows_of(tmp_path / "a.json")
    assert [len(value["text"]) for _, value in rows] == [1, 50_000_000]
