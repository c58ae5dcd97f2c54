from __future__ import annotations

from pathlib import Path

from tests.data.sources.raw_rows import LINES, error_of, rows_of

from instil.data.sources.rows import read_raw_rows


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


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(LINES)
    assert f"no such file (did you mean '{tmp_path / 'train.jsonl'}'?)" in error_of(tmp_path / "trian.jsonl")
    assert "no file matches" in error_of(tmp_path / "*.csv")
    (tmp_path / "empty").mkdir()
    assert "no data file in this folder" in error_of(tmp_path / "empty")
