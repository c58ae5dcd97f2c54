from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.sources.raw_rows import LINES, ROWS, check_refusal, rows_of

from instil.data.sources.rows import read_raw_rows
from instil.errors import DataError


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


def test_a_text_file_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    assert rows_of(tmp_path / "a.txt") == [(1, {"text": "one\ntwo\n"})]


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("a.csv", b"a,b\n1,2\n3\n", ":3: has 1 fields. Expected 2, as in the header"),
        ("a.csv", b"a,a\n1,2\n", ":1: the header has 'a' twice"),
        ("a.csv", b'a,b\n1,2\n"x,3\n', ":3: not valid CSV (unexpected end of data)"),
        ("a.csv", b"a,b\n1,\xff\n", ":2: byte 0xff is not UTF-8"),
        ("a.csv", b'a,b\n1,"x\ny \xff"\n', ":3: byte 0xff is not UTF-8"),
        ("a.csv", b"a,b\n1,x\x00\n", ":2: holds a NUL"),
        ("a.txt", b"one\ntw\x00o\n", ":2: holds a NUL"),
        (
            "a.csv",
            b"a;b\n1\n2\n",
            ":1: the header is one column, 'a;b', with ';' in it. Expected columns separated by ','",
        ),
        ("a.parquet", LINES, "not a readable Parquet file"),
        ("a.arrow", LINES, "not a readable Arrow file"),
    ],
)
def test_faults_are_refused_with_their_place(tmp_path: Path, name: str, data: bytes, error: str) -> None:
    check_refusal(tmp_path / name, data, error)


def test_a_broken_row_does_not_hide_the_next(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a,b\n1,2\n3\n4,5\n")
    raw = [value for _, value in read_raw_rows(str(tmp_path / "a.csv"))]
    assert isinstance(raw[1], DataError)
    assert raw[2] == {"a": "4", "b": "5"}
