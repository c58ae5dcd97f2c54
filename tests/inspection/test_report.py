"""Claims about the report in the terminal and as JSON, on surveys made by hand."""

from __future__ import annotations

import dataclasses
import io
import json

import pytest
from rich.console import Console
from tests.inspection.hand_made import PASSED, SUBJECT, Token

from instil.conversation import Place
from instil.inspection.findings import KINDS, Finding, Findings
from instil.inspection.histogram import LengthHistogram, ShareHistogram
from instil.inspection.report import (
    PLACES_SHOWN,
    Subject,
    charts_of,
    page_text,
    print_report,
    print_subject,
    row_to_json,
    to_json,
)
from instil.inspection.row_screen import print_row
from instil.inspection.shown_rows import ShownExample, ShownRow
from instil.inspection.survey import Survey
from instil.preparation.ledger import Ledger


def survey_of(findings=(), *, lengths=(), ledger=None, notes=()):
    collected = Findings()
    for kind, row in findings:
        collected.add(Finding(kind, None if row is None else Place("rows.jsonl", row), f"seen in {row}"))
    histogram = LengthHistogram()
    for length in lengths:
        histogram.add(length)
    return Survey((), ledger or Ledger(), histogram, ShareHistogram(), LengthHistogram(), collected, notes=notes)


def printed(show, *values, **options):
    console = Console(file=io.StringIO(), width=60)
    show(console, *values, **options)
    return console.file.getvalue().splitlines()


def test_three_places_are_printed_and_the_rest_is_counted():
    lines = printed(print_report, SUBJECT, survey_of([("loop", row) for row in range(1, 6)]), PASSED)
    assert [line.strip() for line in lines if "seen in" in line] == [
        f"rows.jsonl:{row}: seen in {row}" for row in range(1, PLACES_SHOWN + 1)
    ]
    assert lines[-1].strip() == "… and 2 more"
    assert "Findings  (5 warnings)" in lines


def test_findings_are_counted_by_severity_in_words():
    found = [("unreadable", 1), ("loop", 2), ("typed_stop", 3), ("control_tokens", 4)]
    lines = printed(print_report, SUBJECT, survey_of(found), PASSED)
    assert "Findings  (1 error, 2 warnings, 1 note)" in lines
    assert "Findings: none" in printed(print_report, SUBJECT, survey_of(), PASSED)


def test_what_fix_repairs_is_marked_and_nothing_else():
    assert any(kind.repaired for kind in KINDS.values())
    for name, kind in KINDS.items():
        lines = printed(print_report, SUBJECT, survey_of([(name, 1)]), PASSED)
        (line,) = [line for line in lines if kind.remedy in line]
        assert line.endswith("(--fix FILE does this)") == kind.repaired, name


def test_a_finding_about_all_rows_is_printed_without_a_place():
    lines = printed(print_report, SUBJECT, survey_of([("token_factor", None)]), PASSED)
    assert lines[-1].strip() == "seen in None"


def test_data_cannot_send_the_terminal_an_escape_sequence():
    subject = Subject("\x1b[31mrows", "demo\x1b[0m", "chatml", ("\x1b]0;title\x07",))
    lines = [*printed(print_subject, subject), *printed(print_report, subject, survey_of(notes=("\x1b[2J",)), PASSED)]
    assert lines[0] == "␛[31mrows"
    assert not any("\x1b" in line or "\x07" in line for line in lines)


@pytest.mark.parametrize(("num_shown", "rows_in", "fact"), [
    (5, 1234, "5 of 1,234 rows, those with findings first"),
    (2, 2, "all 2 rows"),
    (1, 1, "1 row"),
])  # fmt: skip
def test_the_page_names_how_many_rows_it_shows(num_shown, rows_in, fact):
    text = page_text(SUBJECT, survey_of(ledger=Ledger(rows_in=rows_in)), PASSED, num_shown=num_shown)
    assert text.facts == ["model demo", "template chatml", "stop tokens <|im_end|>", fact]
    assert "a note about the model" in text.ledger


def test_the_json_has_the_counts_and_survives_json():
    survey = survey_of([("loop", 2), ("token_factor", None)], lengths=[3, 5, 7], notes=("a note about the survey",))
    report = json.loads(json.dumps(to_json(SUBJECT, survey, PASSED)))
    assert report["findings"]["counts"] == {"loop": 1, "token_factor": 1}
    assert {name: report["tokens"][name] for name in ("count", "total", "smallest", "largest")} == {
        "count": 3,
        "total": 15,
        "smallest": 3,
        "largest": 7,
    }
    assert sum(count for _, _, count in report["tokens"]["bins"]) == 3
    assert report["notes"] == ["a note about the model", "a note about the survey"]
    assert report["proof"] == {"passed": True, "num_checked": 30, "not_carried": [], "findings": []}


def of_sides(reading, *, chosen, rejected):
    survey = survey_of(lengths=[*chosen, *rejected], ledger=Ledger(reading=reading))
    for histogram, lengths in ((survey.chosen_lengths, chosen), (survey.rejected_lengths, rejected)):
        for length in lengths:
            histogram.add(length)
    return survey


@pytest.mark.parametrize(("reading", "names"), [("pairs", ("chosen", "rejected")), ("judged", ("good", "bad"))])
def test_the_lengths_of_both_sides_are_drawn_with_the_same_bins(reading, names):
    survey = of_sides(reading, chosen=[3, 3, 4], rejected=[9])
    charts = {title: bins for title, _, bins, _ in charts_of(survey)}
    first, second = (charts[f"Tokens of a {name} answer"] for name in names)
    assert [(bar.low, bar.high) for bar in first] == [(bar.low, bar.high) for bar in second]
    assert (sum(bar.count for bar in first), sum(bar.count for bar in second)) == (3, 1)
    assert "Trained tokens of an example" not in charts
    lines = printed(print_report, SUBJECT, survey, PASSED)
    assert any(line.startswith(f"Tokens of a {names[1]} answer  (median 9, ") for line in lines)
    assert "Tokens of a rejected answer" not in {title for title, *_ in charts_of(survey_of(lengths=[3]))}


def test_the_json_has_the_lengths_of_both_sides_where_there_are_sides():
    report = to_json(SUBJECT, of_sides("pairs", chosen=[3, 4], rejected=[9]), PASSED)
    assert (report["chosen_tokens"]["total"], report["rejected_tokens"]["total"]) == (7, 9)
    assert "chosen_tokens" not in to_json(SUBJECT, survey_of(lengths=[3]), PASSED)


ROW = ShownRow(
    Place("rows.jsonl", 7),
    (
        ShownExample([Token("Hi", 0), Token("Hello.", 1, 1.0, id=9, field="content")], ("user", "assistant")),
        ShownExample([Token("Hi", 0)], ("user",), shortened="cut"),
    ),
    (Finding("control_tokens", Place("rows.jsonl", 7), "2 typed."),),
)


def test_a_row_is_printed_with_its_place_findings_and_counts():
    lines = printed(print_row, ROW)
    assert lines[0] == "rows.jsonl:7"
    assert lines[1] == (
        "note: control tokens typed in the text: 2 typed. Nothing to do: they are trained as ordinary text."
    )
    assert "example 1 of 2: 2 tokens, 1 trained" in lines
    assert "example 2 of 2: 1 token, 0 trained, shortened: cut" in lines
    assert "this row has no example" in printed(print_row, ShownRow(Place("rows.jsonl", 8)))


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.reasoned])
def test_an_error_with_its_own_remedy_is_shown_with_that_alone(kind):
    row = ShownRow(Place("rows.jsonl", 7), (), (Finding(kind, Place("rows.jsonl", 7), "Found. Expected. Do this."),))
    assert printed(print_row, row)[1] == f"error: {KINDS[kind].title}: Found. Expected. Do this."
    assert "Do this.<" in row._repr_html_()
    assert KINDS[kind].remedy not in row._repr_html_()


def test_a_refusal_of_the_template_keeps_its_own_end_and_gets_a_remedy():
    row = ShownRow(Place("rows.jsonl", 7), (), (Finding("refused", Place("rows.jsonl", 7), "one call at once!"),))
    assert printed(print_row, row)[1].endswith(
        "or the encoder: one call at once! Do what the reason says, or remove the row."
    )


def test_long_headings_are_lines_that_can_be_copied():
    place, subject = Place("rows/" * 20 + "rows.jsonl", 7), dataclasses.replace(SUBJECT, data="rows/" * 20)
    assert str(place) in printed(print_row, ShownRow(place))
    notes = ("a note " * 20 + "ends",)
    lines = [*printed(print_subject, subject), *printed(print_report, subject, survey_of(notes=notes), PASSED)]
    assert "rows/" * 20 in lines
    assert f"  {' · '.join(subject.facts())}" in lines
    assert f"  {'a note ' * 20}ends" in lines


def test_a_row_as_json_has_every_token():
    row = json.loads(json.dumps(row_to_json(ROW)))
    assert [len(example["tokens"]) for example in row["examples"]] == [2, 1]
    assert row["examples"][0]["tokens"][1] == {
        "id": 9, "text": "Hello.", "weight": 1.0, "message": 1, "field": "content",
    }  # fmt: skip
    assert row["findings"][0]["kind"] == "control_tokens"


def test_a_row_as_json_names_the_sides():
    sides = [ShownExample([Token("Hi", 0)], side=side, pair=1, left_out="equal") for side in ("chosen", "rejected")]
    examples = row_to_json(ShownRow(Place("rows.jsonl", 7), tuple(sides)))["examples"]
    assert [(one["side"], one["pair"], one["left_out"]) for one in examples] == [
        ("chosen", 1, "equal"),
        ("rejected", 1, "equal"),
    ]
    assert {row_to_json(ROW)["examples"][0][key] for key in ("side", "pair", "left_out")} == {None}
