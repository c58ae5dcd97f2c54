from __future__ import annotations

import pytest
from tests.evaluation.cases import case

from instil.errors import EvaluationError
from instil.evaluation.extraction import field_f1, make_judge

SCHEMA = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
}


@pytest.mark.parametrize(
    ("said", "scores"),
    [
        ('{"name": "Ada", "age": 36}', (1, 1, 1, 1)),
        ('```json\n{"age": 36, "name": "ada"}\n```', (1, 1, 1, 1)),
        ('{"name": "Ada"}', (1, 1, 2 / 3, 0)),
        ('{"age": "36", "name": "Ada"}', (1, 0, 1, 1)),
        ('{"first": "Ada"}', (1, 0, 0, 0)),
        ('{"name": "Ada"', (0, 0, 0, 0)),
        ("Ada", (0, 0, 0, 0)),
        ('"Ada"', (0, 0, 0, 0)),
    ],
)
def test_extraction_is_judged_by_validity_schema_and_fields(said, scores):
    found = make_judge(SCHEMA)(case(said, '{"name": "Ada", "age": 36}'))
    names = ("valid_json", "matches_schema", "field_f1", "all_fields")
    assert [found[name] for name in names] == pytest.approx(scores)


def test_a_rows_own_schema_wins_and_a_wrong_schema_is_refused():
    judge = make_judge(SCHEMA)
    assert judge(case("[1]", schema={"type": "array"}))["matches_schema"] == 1
    assert make_judge(None)(case("x", "plain text")) is None
    with pytest.raises(EvaluationError, match=r"schema is invalid .* Expected a JSON schema"):
        make_judge({"type": "objekt"})


def test_lists_are_compared_without_order():
    assert field_f1({"a": [1, 2]}, {"a": [2, 1]}) == 1
    assert field_f1([], []) == 1


@pytest.mark.parametrize(
    "answer", ["[" * 100_000, "[" * 800 + "]" * 800, '{"a":' * 5_000, "```json\n" + "[" * 5_000 + "\n```"]
)
def test_an_answer_that_is_nested_without_end_is_no_json(answer):
    scores = make_judge({"type": "object"})(case(answer, '{"a": 1}'))
    assert scores == {"valid_json": 0.0, "matches_schema": 0.0, "field_f1": 0.0, "all_fields": 0.0}
