"""Cells that say nothing, unfilled placeholders and empty questions are findings; code, JSON and formulas are not."""

from __future__ import annotations

import json

import pytest
from tests.inspection.small_chat import small_chat

from instil.inspection.survey import survey
from instil.inspection.text_checks import placeholder_in, says_nothing
from instil.recipe import Recipe


@pytest.mark.parametrize(
    "text",
    [
        "N/A",
        " n/a ",
        "-",
        "None",
        "nan",
        "NULL",
        "None\nNone\nNone",
        "null\n\nnull",
        "—",
        "#REF!",
        "#DIV/0!",
        "\\N",
        "(none)",
        "TBD",
        "...",
    ],
)
def test_texts_that_say_nothing(text):
    assert says_nothing(text)


@pytest.mark.parametrize("text", ["None of them.", "No", "0", "na", "- a\n- b", "Nan is a bread.", "", "None\nTwo"])
def test_short_answers_say_something(text):
    assert not says_nothing(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Dear {{name}}, welcome.", "{{name}}"),
        ("Dear {first_name}, welcome.", "{first_name}"),
        ("Hello [NAME], this is [COMPANY].", "[NAME]"),
        ("I work at [YOUR COMPANY].", "[YOUR COMPANY]"),
        ("Kind regards,\n[Your Name]", "[Your Name]"),
        ("Dear {{First Name}}; welcome.", "{{First Name}}"),
        ("Hello {Name}, it costs 5 $.", "{Name}"),
        ("```\nprint(1)\n```\nDear {name}, run it.", "{name}"),
    ],
)
def test_placeholders(text, found):
    assert placeholder_in(text) == found


@pytest.mark.parametrize(
    "text",
    [
        'print(f"{name}")',
        "Use `{name}` in the string.",
        r"The fraction \frac{abc}{def} is small.",
        "The set $\\{abc\\}$ or ${abc}$.",
        '{"name": "{value}"}',
        "```\nHello {{name}}\n```",
        "for (int i = 0; i < n; i++) {body}",
        "See [NAME](https://example.org).",
        "See [NAME][1].\n\n[NAME]: https://example.org",
        "The route is /users/{user_id}/posts.",
        "x^{max} and y_{min}, \\(z_{max}\\)",
        "Ruby writes #{name}, a template engine %{name}.",
        "{% for item in items %}{{ item }}{% endfor %}",
        "In Jinja, {{ name }} prints a variable.",
        "Helm fills {{ .Values.image }} in.",
        "~~~\nHello {{name}}\n~~~",
        "The shell line:\n\n    mv {old,new}/{name}",
        "import {useState} from 'react'",
        '@GetMapping("/{name}")',
        "BERT has the tokens [CLS] and [TEXT].",
        "{count, plural, one {item} other {items}}",
        "A list [1, 2] and {a}.",
        "def greet(name): return '{name}'.format(name=name)",
    ],
)
def test_code_json_and_formulas_hold_no_placeholder(text):
    assert placeholder_in(text) == ""


def test_inspect_counts_them_with_places_in_every_shape(tmp_path):
    rows = [
        {"instruction": "", "input": "", "output": "Certainly."},
        {"instruction": "Name a sea.", "input": "", "output": "N/A"},
        {"question": "nan", "answer": "The Baltic."},
        {"conversations": [{"from": "human", "value": "Greet {{name}}."}, {"from": "gpt", "value": "Good day."}]},
        {
            "messages": [
                {"role": "user", "content": "Look it up."},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"type": "function", "function": {"name": "find", "arguments": "{}"}}],
                },
                {"role": "tool", "content": "None\nNone\n"},
                {"role": "assistant", "content": "I found nothing."},
            ]
        },
        {"instruction": "Name a lake.", "output": "The Ladoga."},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = Recipe.from_mapping({"data": {"sources": [str(path)]}}, source="test")
    findings = survey(recipe, small_chat()).findings
    places = {kind: [one.place.row for one in findings.of_kind(kind)] for kind in findings.counts}
    assert places["empty_question"] == [1]
    assert places["says_nothing"] == [2, 3, 5]
    assert places["placeholder"] == [4]
