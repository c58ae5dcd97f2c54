"""Claims about the fixed file and the diff."""

from __future__ import annotations

import json

import pytest

from instil.conversation import Place
from instil.errors import DataError
from instil.inspection.fixed_file import FixedFile, check_target, diff_lines, write_fixed
from instil.inspection.repair import Repair

PLACE = Place("a.jsonl", 3)
KEPT = Repair(Place("a.jsonl", 1), {"text": "é\u2028x"}, {"text": "é\u2028x"})
CHANGED = Repair(PLACE, {"ouput": "b", "instruction": "a"}, {"output": "b", "instruction": "a"}, ("row: key renamed",))
LEFT_OUT = Repair(Place("a.jsonl", 4), {"text": ""}, None, ("left out: empty",))


def test_the_file_holds_the_rows_that_remain_and_the_counts_add_up(tmp_path):
    target = tmp_path / "out.jsonl"
    given = list(write_fixed([KEPT, CHANGED, LEFT_OUT], target))
    assert given[:2] == [CHANGED, LEFT_OUT]
    assert given[2] == FixedFile(target, rows_in=3, rows_out=2, changed=1, left_out=1)
    assert str(given[2]).endswith("3 rows in = 2 written (1 of them fixed) + 1 left out")
    lines = target.read_text(encoding="utf-8").split("\n")
    assert [json.loads(line) for line in lines[:-1]] == [KEPT.after, CHANGED.after]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl"]


def test_an_interrupted_or_empty_result_leaves_nothing(tmp_path):
    def broken():
        yield KEPT
        raise DataError("a.jsonl: damaged")

    for repairs, reason in ((broken(), "a.jsonl: damaged"), ([LEFT_OUT], "no row")):
        with pytest.raises(DataError, match=reason):
            list(write_fixed(repairs, tmp_path / "out.jsonl"))
        assert list(tmp_path.iterdir()) == []


def test_a_target_that_is_there_or_cannot_be_is_refused(tmp_path):
    (tmp_path / "there.jsonl").write_text("x")
    for name in ("there.jsonl", "out.csv", "missing/out.jsonl"):
        with pytest.raises(DataError, match=r"Expected"):
            check_target(tmp_path / name)
    assert (tmp_path / "there.jsonl").read_text() == "x"


def test_the_diff_shows_the_lines_that_differ():
    lines = [line.plain for line in diff_lines(CHANGED)]
    assert lines[0] == "a.jsonl:3: row: key renamed"
    assert '-  "ouput": "b",' in lines[1:]
    assert '+  "output": "b",' in lines[1:]


def test_a_row_left_out_is_shown_with_its_reason_on_one_line():
    assert [line.plain for line in diff_lines(LEFT_OUT)] == ["a.jsonl:4: left out: empty", '- {"text": ""}']


def test_escape_sequences_in_data_do_not_reach_the_terminal():
    repair = Repair(PLACE, {"text": "a\x1b[31m"}, {"text": "b\x1b[31m"}, ("x",))
    assert not any("\x1b" in line.plain for line in diff_lines(repair))
