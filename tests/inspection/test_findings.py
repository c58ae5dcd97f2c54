"""Claims about findings and how they are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from instil.conversation import Place
from instil.inspection.findings import KINDS, Finding, Findings


def test_counts_are_exact_though_only_the_first_are_kept():
    findings = Findings(keep=2)
    for row in range(1, 6):
        findings.add(Finding("loop", Place("a.jsonl", row), "again"))
    assert findings.counts == {"loop": 5}
    assert [finding.place.row for finding in findings.of_kind("loop")] == [1, 2]
    assert findings.has(Place("a.jsonl", 2))
    assert not findings.has(Place("a.jsonl", 3))


def test_every_kind_has_a_title_a_severity_and_a_remedy():
    assert len(KINDS) > 12
    for name, kind in KINDS.items():
        assert kind.name == name
        assert kind.title
        assert kind.remedy
        assert kind.severity in ("error", "warning", "note")


def test_json_carries_place_and_remedy():
    found = Finding("empty_answer", Place("a.jsonl", 3), "message 2 is an empty answer").to_json()
    assert found["place"] == "a.jsonl:3"
    assert found["remedy"] == KINDS["empty_answer"].remedy


def test_an_unknown_kind_is_a_fault():
    with pytest.raises(KeyError, match="nonsense"):
        Findings().add(Finding("nonsense", None, ""))


def test_every_kind_stands_in_the_docs_with_its_severity():
    page = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "inspecting.md").read_text(encoding="utf-8")
    for kind in KINDS.values():
        assert f"| `{kind.name}` | {kind.severity} | {kind.title} |" in page


def test_the_page_names_every_kind_with_its_severity_and_a_remedy():
    page = (Path(__file__).parents[2] / "docs" / "reference" / "inspecting.md").read_text(encoding="utf-8")
    assert len(KINDS) > 10
    for kind in KINDS.values():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{kind.name}` | {kind.severity} |"))
        assert row.endswith("| yes |" if kind.repaired else "| |"), row
        assert page.count(f"| `{kind.name}` |") == 2
