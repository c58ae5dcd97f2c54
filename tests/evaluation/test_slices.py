from __future__ import annotations

from tests.evaluation.cases import case

from instil.evaluation.slices import MAX_GROUPS, slices_of


def test_cases_are_grouped_by_what_differs_between_them():
    cases = [
        case("a", question="What is the capital of France and of Spain?", level=1),
        case("b", question="Wie ist das Wetter und was ist die Hauptstadt?", system="Be kind.", level=1),
        case("c", question="What is the name of the river and of the city?", level="hard"),
    ]
    assert [(group.kind, group.name, group.numbers) for group in slices_of(cases)] == [
        ("language", "de", (1,)),
        ("language", "en", (0, 2)),
        ("system text", "with", (1,)),
        ("system text", "without", (0, 2)),
        ("level", "1", (0, 1)),
        ("level", "hard", (2,)),
    ]


def test_too_many_groups_and_columns_of_lists_are_no_slices():
    assert slices_of([case("a", subject=str(number)) for number in range(MAX_GROUPS + 1)]) == []
    assert len(slices_of([case("a", subject=str(number)) for number in range(MAX_GROUPS)])) == MAX_GROUPS
    assert slices_of([case("a", type=["x"]), case("b", type=["y"])]) == []
    assert [group.name for group in slices_of([case("a", type="x"), case("b")])] == ["(none)", "x"]
