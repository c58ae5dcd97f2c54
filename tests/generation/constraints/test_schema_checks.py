"""Schemas that cannot be enforced, or that no finite JSON satisfies."""

from __future__ import annotations

import time

import pytest

from instil.errors import GenerationError
from instil.generation.constraints.schema_checks import MAX_DEPTH, check_schema

ENDLESS = {
    "$defs": {
        "t": {"type": "object", "properties": {"k": {"$ref": "#/$defs/t"}}, "required": ["k"]},
        "l": {"type": "array", "items": {"$ref": "#/$defs/l"}, "minItems": 1},
    }
}


def deep(levels):
    schema = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"properties": {"a": {"frobnicate": 1}}}, r"^s\.properties\.a\.frobnicate: unknown keyword"),
        ({"items": {"if": {}}}, r"^s\.items\.if: cannot be enforced"),
        ({"anyOf": [{}, {"uniqueItems": True}]}, r"^s\.anyOf\[1\]\.uniqueItems: cannot be enforced"),
        ({"$defs": {"x": {"nullable": True}}}, r"^s\.\$defs\.x\.nullable: cannot be enforced"),
        ({"format": "credit-card"}, r"^s\.format: found \"credit-card\"\. Expected one of date-time"),
        ({"items": [{}]}, r"^s\.items: found \[\{\}\]\. Expected a schema"),
        ({"minProperties": 2}, r"^s\.minProperties: found 2\. Expected 0 or 1"),
        ({"maxLength": 10**9}, r"^s\.maxLength: found 1000000000"),
        ({"multipleOf": 999_983}, r"^s\.multipleOf: found 999983"),
        ({"multipleOf": 0.1234567}, r"^s\.multipleOf: "),
        ({"multipleOf": 1e300}, r"^s\.multipleOf: "),
        ({"multipleOf": 0}, r"^s\.multipleOf: "),
        ({"enum": []}, r"^s\.enum: "),
        ({"required": "a"}, r"^s\.required: "),
        ({"$ref": "#/$defs/none"}, r"^s\.\$ref: #/\$defs/none does not exist"),
        ({"$ref": "http://example.org/x"}, r"^s\.\$ref: found"),
        ({"const": float("inf")}, r"^s: it is no JSON"),
        ({**ENDLESS, "$ref": "#/$defs/t"}, r"^s: only endless JSON"),
        ({**ENDLESS, "$ref": "#/$defs/l"}, r"^s: only endless JSON"),
        ({"$ref": "#"}, r"^s: only endless JSON"),
        (deep(MAX_DEPTH + 1), r"deeper than 32 levels"),
        (deep(5_000), r"it is no JSON|deeper than 32 levels|found .* characters"),
        ({"enum": ["x" * 300_000]}, r"^s: found 300,\d+ characters"),
        ({"x-guidance": {"lenient": True}}, r"^s\.x-guidance: unknown keyword"),
    ],
)
def test_it_is_refused_by_place(schema, message):
    with pytest.raises(GenerationError, match=message):
        check_schema(schema, "s")


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"multipleOf": 0.01},
        {"title": "T", "description": "d", "default": 1, "examples": [1], "type": "integer"},
        {**ENDLESS, "anyOf": [{"$ref": "#/$defs/t"}, {"type": "null"}]},
        {"$defs": {"t": {"type": "object", "properties": {"k": {"$ref": "#/$defs/t"}}}}, "$ref": "#/$defs/t"},
        {"type": "array", "items": {"$ref": "#"}},
    ],
)
def test_it_is_allowed(schema):
    check_schema(schema, "s")


def test_many_definitions_of_each_other_are_checked_in_time():
    names = range(150)
    schema = {
        "$defs": {
            f"d{at}": {
                "type": "object",
                "properties": {key: {"$ref": f"#/$defs/d{(at + 1) % 150}"} for key in "ab"},
                "required": ["a", "b"],
            }
            for at in names
        },
        "$ref": "#/$defs/d0",
    }
    start = time.monotonic()
    with pytest.raises(GenerationError, match="only endless JSON"):
        check_schema(schema, "s")
    assert time.monotonic() - start < 10
