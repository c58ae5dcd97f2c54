"""Every string operation of a template gives `str`'s own text, and origins that are true."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markupsafe import escape

from instil.template.environment import plain_template, traced_template
from instil.template.message_dicts import traced_value
from instil.template.traced_text import TracedStr, joined, runs_of
from instil.template.tracing import merged

# x and y are traced, z is the template's own; s is a list of x, y and z
KEEPING = """
x | x[1:] | x[:-1] | x[::-1] | x[1:5:2] | x[-3:] | x ~ y | x + y | z + x | x + z | x * 2 | 3 * x | x | y ~ 1 ~ x
x.strip() | x.lstrip() | x.rstrip() | x.strip('a ') | x.strip('\\n') | x|trim | x|trim('a') | x.split('a')|join('-') | x.split()|join(' ')
x.split(' ', 1)[0] | x.split(maxsplit=1)|join('|') | x.rsplit('a', 1)|last | x.rsplit(None, 1)|first | x.rsplit()|list|join
x.splitlines()|join('/') | x.splitlines(true)|join('') | x.partition('a')|join('~') | x.rpartition('a')|join('~')
x.replace('a', 'bb') | x.replace('a', y) | x|replace('a', '') | x|replace(' ', y, 1) | z|replace('n', x) | x.replace('a', 'b', 2) | x.replace('', '-')
x.removeprefix('a') | x.removesuffix(' ') | x|string | x|default('q') | s|join(', ') | s|join(x) | s|map('trim')|join | s|map('upper')|join('')
x|upper | x|lower | x|title | x|capitalize | x.upper() | x.title() | x.capitalize() | x.swapcase() | x.lower() | x.casefold() | x|reverse | x|list|join
x|tojson | s|tojson | {'k': x, 'n': [y, 1, none, true, 1.5]}|tojson | {'k': x}|tojson(indent=2) | [x]|tojson(ensure_ascii=true) | {x: y}|tojson(sort_keys=true)
'%s' % x | '<%s|%s>' % (x, y) | '%(a)s' % {'a': x} | '%s'|format(x) | '%d %s'|format(3, x) | '{}'.format(x) | '{0}{1}{0}'.format(x, y) | '{a[k]}'.format(a={'k': x}) | x.format(1) | '%5s' % x
x|indent | x|indent(2, true) | x|indent('>', blank=true) | x|indent(first=true) | x|safe | (x|safe) + '<b>' | '<b>' + (x|safe) | x|e | x|escape|upper | (x|safe)|trim | x|forceescape | (x|e) ~ y
(x|safe)[1:] | (x|safe).replace('a', '<') | (x|safe).split('a')|join('<') | (x|safe) * 2 | (x|e)|string | '%s' % (x|e) | y + (x|safe)
', '.join(s) | ''.join(x) | 'n'.join([x, y]) | 'anna'.replace('n', x) | z.join(x) | {'a': x}.a | {'a': x}.b | {'items': x}['items'] | {'k': {'j': y}}.k.j | 'a'.join([1])
autoescaped | x.center(30) | x.ljust(30, '.') | x.rjust(30) | x|center(31) | x.zfill(9) | x.expandtabs() | x|truncate(9) | x|wordwrap(5) | x|urlencode | x|striptags | x|wordcount
{'k': x, 'l': [y]} | [x, y] | {'k': x}|string | (x, y) | ('%s' % {'k': x}) | {'a': x}.items()|list | {'k': x}|pprint | {'a': x}|dictsort | {'a': x}|items|list
x|first | x|last | x[0] | x[-1] | x|length | x is string | x in y | x == y | 'a' in x | x|int | x|float | x.startswith('a') | x.endswith('a') | x.find('a') | x.count('a') | x.index('') | x.isdigit()
s|sort|join(' ') | s|unique|join(' ') | s|select('equalto', x)|join | s|batch(2)|list|string | s|max | s|min | s|groupby(0)|list|length | s|reject('string')|list
loop_over | macro | block_set | filter_block | namespace | call_block | generation | x ~ none | x ~ undefined_name | x if x else y | not x | x and y | x or y
"""
BLOCKS = {
    "loop_over": "{% for c in x %}[{{ c }}]{% endfor %}",
    "macro": "{% macro m(a, b='z') %}<{{ a }}{{ b }}>{% endmacro %}{{ m(x) }}{{ m(y, b=x)|trim }}{{ m(x)[2:] }}",
    "block_set": "{% set v %} {{ x }} - {{ y }} {% endset %}{{ v|trim }}{{ v[3:] }}",
    "filter_block": "{% filter upper %}{{ x }}q{% endfilter %}{% filter trim %} {{ y }} {% endfilter %}",
    "namespace": "{% set n = namespace(a='') %}{% for i in [x, y, z] %}{% set n.a = n.a + i %}{% endfor %}{{ n.a }}",
    "call_block": "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}{{ x }}{% endcall %}",
    "autoescaped": "{% autoescape true %}{{ x }}{{ x ~ y }}{{ x|safe }}{% set v %}{{ y }}<b>{% endset %}{{ v }}{% endautoescape %}",
    "generation": "{% generation %}{{ x }}{% endgeneration %}|{{ y }}",
}
EXPRESSIONS = [part.strip() for line in KEEPING.strip().splitlines() for part in line.split(" | ")]
SOURCES = [BLOCKS.get(expression, "{{ " + expression + " }}") for expression in EXPRESSIONS]
TEXT = st.text(alphabet=st.sampled_from("aab A\n\t'\"\\{}<&>%sßŉİΣé🌈\r\u2028-0"), max_size=14)


def outcome(template, values) -> tuple[str, str]:
    """Give what a template prints, or how it fails."""
    try:
        return "text", template.render(values)
    except Exception as error:
        return "error", type(error).__name__


def test_expressions_cover_what_templates_use():
    assert len(SOURCES) > 140
    assert len(set(BLOCKS) - set(EXPRESSIONS)) == 0


@pytest.mark.parametrize("source", sorted(set(SOURCES)))
@settings(max_examples=12, deadline=None)
@given(x=TEXT, y=TEXT)
@example(x=" a\"b'\n\\ ca ", y="")
@example(x="ßa é🌈", y="a")
@example(x="", y="a%s")
@example(x="{}a", y="<a>")
def test_text_is_that_of_str(source, x, y):
    z = "printed <n>"
    plain = outcome(plain_template(source), {"x": x, "y": y, "z": z, "s": [x, y, z]})
    a, b = traced_value(x, 0, "content"), traced_value(y, 1, "content")
    kind, text = outcome(traced_template(source), {"x": a, "y": b, "z": z, "s": [a, b, z]})
    assert (kind, str.__str__(text)) == plain
    fields = {0: x, 1: y}
    end = 0
    for start, stop, (message, _), offset in runs_of(text) if kind == "text" else ():
        assert end <= start < stop <= len(text)
        end = stop
        for index in range(start, stop):
            character = fields[message][offset + index - start]
            assert str.__getitem__(text, index) in ways_to_write(character)


def ways_to_write(character: str) -> str:
    """Give the character itself, its other cases, and its escapes in JSON, Python and HTML."""
    escapes = character + json.dumps(character) + repr(character) + str(escape(character)) + "\\"
    final_sigma = "ς" if character == "Σ" else ""
    return escapes + escapes.upper() + escapes.lower() + escapes.title() + escapes.casefold() + final_sigma


LOCATED = [
    "{{ x.strip() }}", "{{ x[1:] }}", "{{ x.split('\\n')[0] }}", "{{ '<' ~ x ~ '>' }}", "{{ x|trim|upper }}", "{{ x|tojson }}",
    "{{ '%s' % x }}", "{{ ['a', x]|join(' ') }}", "{{ ', '.join([x]) }}", "{{ x|safe }}", "{{ x|indent }}", "{{ '{}'.format(x) }}",
    "{{ x.replace(' ', '_') }}", "{% set v %}{{ x }}{% endset %}{{ v }}", "{{ x|title }}", "{{ x|e }}", "{{ (x|safe) + 'b' }}",
]  # fmt: skip


@pytest.mark.parametrize("source", LOCATED)
def test_operation_keeps_origins(source):
    rendered = joined(list(_pieces(source, {"x": traced_value("some <words> here", 0, "content")})))
    located = sum(stop - start for start, stop, *_ in runs_of(rendered))
    assert located >= len("some <words> here") - 2


def _pieces(source, values):
    template = traced_template(source)
    return template.root_render_func(template.new_context(values))


def test_traced_string_is_a_string_in_every_respect():
    text = TracedStr("city", ((0, 4, (0, "content"), 0),))
    assert text == "city"
    assert hash(text) == hash("city")
    assert {"city": 1}[text] == 1
    assert {text: 1}["city"] == 1
    assert isinstance(text, str)
    assert repr(text) == "'city'"
    assert merged(runs_of(text + " x")) == ((0, 4, (0, "content"), 0),)
