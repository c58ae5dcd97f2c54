"""Strings quoted as JSON or as Python quotes them are found again, with their origins."""

from __future__ import annotations

import pytest

from instil.template.environment import traced_template
from instil.template.message_dicts import traced_value
from instil.template.quoting import TracedDict, TracedList, plain, with_strings_located
from instil.template.traced_text import joined, runs_of


def _pieces(source, values):
    template = traced_template(source)
    return template.root_render_func(template.new_context(values))


def test_mapping_printed_as_python_does_is_located():
    given = traced_value({"city": "Hà 'Nội'", "tags": ['"a"', 1]}, 2, "arguments")
    text = joined(list(_pieces("{{ x }}", {"x": given})))
    assert text == """{'city': "Hà 'Nội'", 'tags': ['"a"', 1]}"""
    assert (1, 5) in [(a - 1, b - 1) for a, b, (_, field), _ in runs_of(text) if field == "arguments.city.key"]
    assert [text[a:b] for a, b, (_, field), _ in runs_of(text) if field == "arguments.city"] == ["Hà 'Nội'"]


def test_escape_in_json_has_the_origin_of_its_character():
    text = traced_template("{{ x|tojson }}").render(x=traced_value('a"\nb', 0, "content"))
    assert text == '"a\\"\\nb"'
    origins = [offset + index - start for start, stop, _, offset in runs_of(text) for index in range(start, stop)]
    assert origins == [0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize("text", ["", "a", "'", '"', "'\"", "\n\\", "é🌈\x00\u2028", "{}[], :"])
def test_what_python_prints_is_unchanged_and_every_character_located(text: str):
    value = {"k": [text, 1, None], "l": (text,)}
    traced = traced_value(value, 0, "f")
    plain_text = repr({"k": [text, 1, None], "l": [text]})
    assert str.__str__(repr(traced)) == plain_text
    located = [offset for start, stop, (_, field), offset in runs_of(str(traced)) if field == "f.k.0"]
    assert (located[0] if located else 0) == 0
    assert bool(located) == bool(text)


def test_a_string_that_is_not_where_it_should_be_leaves_the_text_without_origins():
    string = traced_value("a", 0, "f")
    assert runs_of(with_strings_located("'a'", [string], repr)) == ((1, 2, (0, "f"), 0),)
    assert runs_of(with_strings_located("'b'", [string], repr)) == ()
    assert runs_of(with_strings_located("b", [string], repr)) == ()


def test_plain_copies_hold_no_traced_container():
    value = plain(TracedDict(a=TracedList([TracedDict(b=(TracedList(),))])))
    assert value == {"a": [{"b": ([],)}]}
    assert type(value) is dict
    assert type(value["a"]) is list
    assert type(value["a"][0]) is dict
    assert type(value["a"][0]["b"][0]) is list
