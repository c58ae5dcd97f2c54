"""A template that makes gigabytes, or takes for ever, ends with one line: before memory is taken, and in bounded time."""

from __future__ import annotations

import resource

import pytest
from tests.forks import in_fork

from instil.conversation import Message
from instil.errors import TemplateError
from instil.template.chat_template import ChatTemplate

ASK = "{{ messages[0].content }}"
LOOP = "{% for i in range(100000) %}"
END = "{% endfor %}"
DOUBLE = "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}"
HOSTILE = {
    "times": "{{ messages[0].content * 10000000000 }}",
    "constant times": "{{ 'a' * 10000000000 }}",
    "power": "{{ 10 ** (10 ** 9) }}",
    "list times": "{{ (messages * 1000000000) | length }}",
    "doubling": DOUBLE,
    "doubling by tilde": DOUBLE.replace("ns.x + ns.x", "ns.x ~ ns.x"),
    "replace": "{% set a = 'a' * 60000 %}{{ a | replace('a', a) }}",
    "replace method": "{% set a = 'a' * 60000 %}{{ a.replace('a', a) }}",
    "center": "{{ messages[0].content | center(10000000000) }}",
    "center method": "{{ messages[0].content.center(10000000000) }}",
    "ljust": "{{ messages[0].content.ljust(10000000000) }}",
    "zfill": "{{ '1'.zfill(10000000000) }}",
    "format width": "{{ '{:>9999999999}'.format(1) }}",
    "format width given": "{{ '{:>{}}'.format(1, 9999999999) }}",
    "percent": "{{ '%9999999999d' % 1 }}",
    "percent filter": "{{ '%9999999999d' | format(1) }}",
    "percent star": "{{ '%*d' % (2000000000, 1) }}",
    "indent": "{{ ('a\\n' * 10000) | indent(1000000) }}",
    "join": "{% set a = 'a' * 1000000 %}{{ range(10000) | join(a) }}",
    "join method": "{% set a = 'a' * 1000000 %}{{ a.join(['b'] * 100000) }}",
    "tojson indent": "{{ messages | tojson(indent=2000000000) }}",
    "expandtabs": "{{ '\\t'.expandtabs(2000000000) }}",
    "shared lists": "{% set ns = namespace(x=['a']) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "shared lists as JSON": "{% set ns = namespace(x=['a']) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
    "batch": "{{ [1] | batch(2000000000, 'x') | list }}",
    "bytes": "{{ (1).to_bytes(9999999999, 'big') }}",
    "wordwrap": "{{ ('a ' * 100000) | wordwrap(1, wrapstring='b' * 100000) }}",
    "output of a loop": LOOP + LOOP + "{{ messages[0].content }}" + END + END,
    "output of a macro": "{% macro m() %}" + LOOP + "{{ messages[0].content * 100 }}" + END + "{% endmacro %}" + LOOP + "{{ m() }}" + END,
    "loops without output": LOOP + LOOP + LOOP + END + END + END,
    "loops with a condition": LOOP + "{% for j in range(100000) if false %}{% endfor %}" + END,
    "macro that calls itself twice": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
}  # fmt: skip
COUNTED = ("output of a loop", "loops with a condition", "macro that calls itself twice")
"""What ends when all steps of a rendering are counted, as "loops without output" does too: several seconds each."""


def render(source: str) -> None:
    talk = [Message("user", "a question"), Message("assistant", "an answer")]
    try:
        print("RENDERED", len(ChatTemplate(source).render(talk).text))
    except TemplateError as error:
        print(type(error).__name__, error)


@pytest.fixture(scope="module")
def _all_imported() -> None:
    """Render a template here, so that no fork has to import what rendering needs."""
    render("{{ messages[0].content }}")


@pytest.mark.slow
@pytest.mark.usefixtures("_all_imported")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in COUNTED else []) for name in HOSTILE]
)
def test_a_hostile_template_ends_with_one_line(name: str) -> None:
    ended = in_fork(lambda: render(HOSTILE[name]), address_space=3 * 2**30, seconds=100)
    assert ended.code == 0, ended.output[-2000:]
    assert ended.output.startswith("LimitError"), ended.output[:300]
    assert ended.output.count("\n") == 1
    assert "Fix it or choose another template." in ended.output


def test_limits_do_not_concern_ordinary_templates() -> None:
    source = "{% for m in messages %}{{ m.role + ': ' ~ m.content | trim }}{{ '-' * 3 }}{{ '%5d' % 7 }}{{ '{:>4}'.format(1) }}{% endfor %}"
    rendering = ChatTemplate(source).render([Message("user", "a" * 1_000_000)])
    assert rendering.text == "user: " + "a" * 1_000_000 + "---    7   1"
    assert resource.getrlimit(resource.RLIMIT_AS)
