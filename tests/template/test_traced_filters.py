"""Each filter gives jinja2's own text, and the origins of what it was given."""

from __future__ import annotations

from typing import Any

import pytest

from instil.template.environment import plain_template, traced_template
from instil.template.message_dicts import traced_value
from instil.template.traced_filters import TRACED_FILTERS, tojson
from instil.template.traced_text import runs_of

FILTERS = [
    ("e", "x|e", 1.0),
    ("escape", "x|escape", 1.0),
    ("forceescape", "(x|safe)|forceescape", 1.0),
    ("format", "'<%s>'|format(x)", 1.0),
    ("format", "'%(a)s'|format(a=x)", 1.0),
    ("format", "'%5.2f'|format(n)", 0.0),
    ("indent", "x|indent(2, first=true)", 1.0),
    ("join", "[x, 'b']|join(', ')", 1.0),
    ("join", "[{'k': x}]|join('', attribute='k')", 1.0),
    ("replace", "x|replace(' ', '_')", 1.0),
    ("replace", "'a'|replace('a', x)", 1.0),
    ("safe", "x|safe", 1.0),
    ("title", "x|title", 1.0),
    ("tojson", "x|tojson", 1.0),
    ("tojson", "{'b': x, 'a': 1}|tojson(sort_keys=true, indent=1)", 1.0),
]


def test_every_filter_is_tried():
    assert {name for name, _, _ in FILTERS} == TRACED_FILTERS.keys()


@pytest.mark.parametrize(("name", "expression", "share"), FILTERS)
def test_text_is_jinjas_and_every_character_located(name: str, expression: str, share: float):
    source, given = "{{ " + expression + " }}", 'it\'s <so> \n"x" é'
    plain = plain_template(source).render(x=given, n=1.5)
    text = traced_template(source).render(x=traced_value(given, 0, "f"), n=1.5)
    assert str.__str__(text) == plain
    covered = {
        offset + index - start
        for start, stop, (_, field), offset in runs_of(text)
        for index in range(start, stop)
        if field == "f"
    }
    # a white space that a filter replaces has no origin; every other character has
    assert covered >= {n for n, character in enumerate(given) if not character.isspace() and share}


@pytest.mark.parametrize(
    ("value", "text"),
    [({2: "a"}, '{"2": "a"}'), ({"k": ("a", None, True)}, '{"k": ["a", null, true]}'), ("é", '"é"')],
)
def test_json_is_that_of_transformers(value: Any, text: str):
    assert tojson(value) == tojson(traced_value(value, 0, "f")) == text
    assert any(run[2][1].startswith("f") for run in runs_of(tojson(traced_value(value, 0, "f"))))
