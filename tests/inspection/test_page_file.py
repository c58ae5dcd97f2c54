"""Claims about writing the mask page: which rows are on it, with which findings, and when it is full."""

from __future__ import annotations

import re

import pytest
from tests.inspection.hand_made import PASSED, SUBJECT
from tests.inspection.small_chat import small_chat

from instil.conversation import Conversation, Message, Place
from instil.errors import DataError
from instil.inspection import page_file
from instil.inspection.findings import Finding, Findings
from instil.inspection.histogram import LengthHistogram, ShareHistogram
from instil.inspection.page_file import write_page
from instil.inspection.survey import KeptRow, Survey
from instil.preparation.ledger import Ledger


def survey_of(num_kept, *, rows_in, findings=()):
    rows = []
    for number in range(1, num_kept + 1):
        place = Place("a.jsonl", number)
        turns = (Message("user", f"Question {number}?"), Message("assistant", "Yes."))
        rows.append(KeptRow(place, (Conversation(turns, place=place),)))
    collected = Findings()
    for finding in findings:
        collected.add(finding)
    return Survey((), Ledger(rows_in=rows_in), LengthHistogram(), ShareHistogram(), LengthHistogram(), collected, rows)


def written(path, survey):
    line = write_page(path, small_chat(), SUBJECT, survey, PASSED)
    return line, re.findall(r'"place":"([^"]*)"', path.read_text(encoding="utf-8"))


def test_all_kept_rows_are_on_the_page_in_order(tmp_path):
    line, places = written(tmp_path / "page.html", survey_of(3, rows_in=3))
    assert places == ["a.jsonl:1", "a.jsonl:2", "a.jsonl:3"]
    assert line == f"wrote {tmp_path / 'page.html'}: all 3 rows"


def test_a_page_with_fewer_rows_than_the_data_names_the_option_for_more(tmp_path):
    line, places = written(tmp_path / "page.html", survey_of(2, rows_in=9))
    assert len(places) == 2
    assert line.endswith(": 2 of 9 rows, those with findings first; --html-rows N shows more")


def test_a_full_page_ends_before_the_row_that_does_not_fit(tmp_path, monkeypatch):
    survey = survey_of(3, rows_in=3)
    lengths = [len(small_chat().encode(row.conversations[0])[0].token_ids) for row in survey.rows]
    for room, num_rows in ((sum(lengths[:2]), 2), (sum(lengths[:2]) - 1, 1), (sum(lengths), 3)):
        monkeypatch.setattr(page_file, "MAX_TOKENS", room)
        line, places = written(tmp_path / "page.html", survey)
        assert len(places) == num_rows
        assert ("--html-rows" in line) == (num_rows < 3)


def test_a_finding_stands_at_its_own_row_and_one_about_all_rows_at_none(tmp_path, monkeypatch):
    at_rows = {}

    def show_row(chat, row, findings):
        at_rows[row.place.row] = [finding.seen for finding in findings]
        return original(chat, row, findings)

    original = page_file.show_row
    monkeypatch.setattr(page_file, "show_row", show_row)
    findings = [
        Finding("typed_stop", Place("a.jsonl", 2), "first"),
        Finding("loop", Place("a.jsonl", 2), "second"),
        Finding("loop", Place("b.jsonl", 1), "of another file"),
        Finding("token_factor", None, "of all rows"),
    ]
    written(tmp_path / "page.html", survey_of(2, rows_in=2, findings=findings))
    assert at_rows == {1: [], 2: ["first", "second"]}


def test_a_page_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "page.html").mkdir()
    with pytest.raises(
        DataError, match=r"page\.html: cannot be written \(.+\)\. Expected a file, and a folder has this name"
    ):
        write_page(tmp_path / "page.html", small_chat(), SUBJECT, survey_of(1, rows_in=1), PASSED)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
