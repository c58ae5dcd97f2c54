from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path

import pytest
from tests.data.sources.raw_rows import LINES, check_refusal, zst

from instil.conversation import Place
from instil.data.sources.rows import is_hub_id, read_raw_rows


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LINES)))
    assert next(place for place, _ in read_raw_rows("-")) == Place("<stdin>", 1)


def test_hub_ids_are_told_from_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    assert is_hub_id("openai/gsm8k")
    assert is_hub_id("hf://datasets/openai/gsm8k")
    for path in ("data/rows", "data", "rows.jsonl", "owner/rows.jsonl", "/tmp/x", "a/b/c"):
        assert not is_hub_id(path)


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("a.jsonl", b"", "holds no row"),
        ("a.json", b"[]", "holds no row"),
        ("a.csv", b"a,b\n", "holds no row"),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", ": is a Git LFS pointer"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", ": is a Git LFS pointer"),
        ("a.jsonl.gz", gzip.compress(LINES * 1000)[:-30], "The file is damaged"),
        ("a.jsonl.gz", LINES, "The file is damaged"),
        ("a.jsonl.zst", zst(LINES * 10000)[:60], "The file is damaged"),
        ("a.jsonl.zst", LINES, "The file is damaged"),
        ("a.parquet.gz", LINES, "Expected it uncompressed"),
        ("a.xls", LINES, "unknown kind of file. Expected .json .jsonl"),
        ("a.xlsx", LINES, "is no readable workbook"),
    ],
)
def test_faults_are_refused_with_their_place(tmp_path: Path, name: str, data: bytes, error: str) -> None:
    check_refusal(tmp_path / name, data, error)
