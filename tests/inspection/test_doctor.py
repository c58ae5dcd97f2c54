"""Claims about the doctor: which check answers for a row, and that a row has one finding for one fault."""

from __future__ import annotations

import json

import pytest

from instil.conversation import Place
from instil.data.formats.row_format import ReadOptions
from instil.errors import DataError
from instil.inspection.doctor import Doctor
from instil.preparation.chunks import Chunk
from instil.preparation.encode_rows import SourceWork

AUTO = SourceWork("auto", ReadOptions(), 1.0, 0.0)


def talk(question, answer, **more):
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer, **more}]
    return {"messages": turns}


def examined(rows, *, source=AUTO, **settings):
    """Return the doctor, and the number of conversations of each row."""
    doctor = Doctor(**settings)
    places = tuple(Place("a.jsonl", number) for number in range(1, len(rows) + 1))
    counts = [len(conversations) for _, conversations in doctor.examine(Chunk(0, places, tuple(rows)), source)]
    return doctor, counts


ROWS = [
    # row                                                        kind             conversations
    (talk("Hi", "Hello."), None, 1),
    (json.dumps(talk("Hi", "Hello.")).encode(), None, 1),
    (b'{"messages": [', "unreadable", 0),
    (DataError("a.jsonl:1: has 2 fields. Expected 3."), "unreadable", 0),
    ({"weird": 1}, "unknown_format", 0),
    ({"instruction": "Name a lake.", "ouput": "Titicaca."}, "misspelt_key", 0),
    ({"mesages": talk("Hi", "Hello.")["messages"]}, "misspelt_key", 1),  # read by the kind of its values
    ({"messages": [{"role": "human", "content": "Hi"}]}, "unknown_role", 0),
    (talk("Hi", ""), "empty_answer", 1),
]


@pytest.mark.parametrize(("row", "kind", "num_conversations"), ROWS)
def test_a_row_has_one_finding_for_its_one_fault(row, kind, num_conversations):
    doctor, counts = examined([row])
    assert doctor.findings.counts == ({} if kind is None else {kind: 1})
    assert counts == [num_conversations]


def test_what_was_seen_does_not_repeat_the_place():
    for row in (b'{"messages": [', DataError("a.jsonl:1: has 2 fields. Expected 3."), {"weird": 1}):
        doctor, _ = examined([row])
        (finding,) = doctor.findings
        assert finding.place == Place("a.jsonl", 1)
        assert finding.seen
        assert "a.jsonl" not in finding.seen


def test_a_row_read_by_patterns_has_no_misspelt_key():
    row = {"mesages": "Hi", "reply": "Hello."}
    source = SourceWork("auto", ReadOptions({"user": "{mesages}", "assistant": "{reply}"}), 1.0, 0.0)
    doctor, counts = examined([row], source=source)
    assert (doctor.findings.counts, counts) == ({}, [1])


def test_an_equal_row_is_a_duplicate_and_not_a_near_duplicate_too():
    long = talk("Describe the river.", " ".join(f"On day {n} it rose by {n * 3} feet." for n in range(40)))
    doctor, _ = examined([long, long])
    assert doctor.findings.counts == {"duplicate": 1}
    (finding,) = doctor.findings
    assert (finding.place.row, finding.seen) == (2, "the same as a.jsonl:1")


@pytest.mark.parametrize(("prints_reasoning", "kinds"), [(True, {}), (False, {"unused_reasoning": 1})])
def test_reasoning_is_a_finding_only_if_the_template_does_not_print_it(prints_reasoning, kinds):
    doctor, _ = examined([talk("2+2?", "4", reasoning_content="two and two")], prints_reasoning=prints_reasoning)
    assert doctor.findings.counts == kinds


def test_repeated_answers_are_found_only_when_all_rows_are_seen():
    answer = "Rivers rise in the hills, and they run through the plains until they meet the sea."
    doctor, _ = examined([talk(f"What does word {n} mean?", answer) for n in range(4)])
    assert "repeated_answer" not in doctor.findings.counts
    assert doctor.finish().counts["repeated_answer"] == 1
    assert doctor.num_not_compared == 0
