"""The environment that keeps origins is transformers' own in everything but string building."""

from __future__ import annotations

import jinja2
import pytest
from jinja2.exceptions import SecurityError
from transformers.utils.chat_template_utils import _compile_jinja_template

from instil.template.environment import plain_template, traced_environment, traced_template
from instil.template.limited_filters import LIMITED
from instil.template.message_dicts import traced_value
from instil.template.traced_filters import TRACED_FILTERS
from instil.template.traced_text import runs_of


def test_filters_tests_globals_and_options_are_those_of_transformers():
    ours, theirs = traced_environment(), _compile_jinja_template("").environment
    assert ours.filters.keys() == theirs.filters.keys()
    changed = {name for name in ours.filters if ours.filters[name] is not theirs.filters[name]}
    assert changed == TRACED_FILTERS.keys() | LIMITED
    assert ours.tests == theirs.tests
    assert ours.globals.keys() == theirs.globals.keys()
    assert ours.extensions.keys() == theirs.extensions.keys()
    for option in ("trim_blocks", "lstrip_blocks", "undefined", "autoescape", "keep_trailing_newline"):
        assert getattr(ours, option) == getattr(theirs, option), option


@pytest.mark.parametrize(
    "source", ["{{ x.__class__ }}", "{{ x.append(1) }}", "{{ d.update(a=1) }}", "{{ '{0.__class__}'.format(x) }}"]
)
def test_both_environments_refuse_what_a_sandbox_refuses(source: str):
    values = {"x": traced_value(["a"], 0, "f"), "d": traced_value({"k": "v"}, 0, "f")}
    outcomes = []
    for compiled in (plain_template(source), traced_template(source)):
        try:
            outcomes.append(str(compiled.render(values)))
        except SecurityError:
            outcomes.append("refused")
    assert outcomes[0] == outcomes[1]
    assert outcomes[0] in ("refused", "")


def test_a_key_is_found_before_a_method_only_where_it_is_none():
    values = {"d": traced_value({"items": "I", "city": "C"}, 0, "f")}
    for source, text in (("{{ d.city }}", "C"), ("{{ d['items'] }}", "I"), ("{{ d.other is undefined }}", "True")):
        assert plain_template(source).render(values) == traced_template(source).render(values) == text
    source = "{{ d.items is string }}"
    assert plain_template(source).render(values) == traced_template(source).render(values) == "False"


def test_plain_strings_keep_the_origins_of_what_they_join_and_replace():
    x = traced_value("x", 0, "f")
    for source in ("{{ '-'.join([x, x]) }}", "{{ 'a-a'.replace('a', x) }}"):
        text = traced_template(source).render(x=x)
        assert (str.__str__(text), [run[:2] for run in runs_of(text)]) == ("x-x", [(0, 1), (2, 3)])


def test_a_template_is_compiled_once_and_a_broken_one_named():
    assert traced_template("{{ x }}") is traced_template("{{ x }}")
    with pytest.raises(jinja2.TemplateSyntaxError, match="Unexpected end of template"):
        traced_template("{% if x %}")


LOOP = (
    "{% for a in x recursive %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}"
    "{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }}{{ loop.previtem }}{{ loop.nextitem }}"
    "{{ loop.cycle('o', 'e') }}{{ loop.changed(a) }}{{ loop['first'] }}{{ loop.nothing is defined }};{% endfor %}"
)


def test_values_of_a_loop_are_jinjas_own():
    values = {"x": traced_value(["a", "b", "c"], 0, "f")}
    own = _compile_jinja_template(LOOP).render(x=["a", "b", "c"])
    assert own.count(";") == 3
    assert plain_template(LOOP).render(values) == traced_template(LOOP).render(values) == own


@pytest.mark.parametrize("name", ["_iterable", "__class__", "__init__", "_undefined"])
def test_what_a_loop_keeps_to_itself_is_refused(name: str):
    source = f"{{% for a in x %}}{{{{ loop.{name}.y }}}}{{% endfor %}}"
    for compiled in (plain_template(source), traced_template(source)):
        with pytest.raises(SecurityError):
            compiled.render(x=["a"])


def test_a_rendering_does_not_see_the_variables_of_another():
    for compiled in (plain_template("{{ x }}"), traced_template("{{ x }}")):
        assert (compiled.render(x="a"), compiled.render(x="b"), compiled.render()) == ("a", "b", "")
        assert "range" in compiled.globals
        assert "x" not in compiled.globals
