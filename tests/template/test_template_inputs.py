"""What a template takes is found by rendering probes with it."""

from __future__ import annotations

import pytest

from instil.conversation import Message, ToolCall
from instil.errors import TemplateError
from instil.template.chat_template import ChatTemplate
from instil.template.message_dicts import Shape

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning", "thought"])
def test_reasoning_reaches_the_key_that_the_template_reads(key):
    source = (
        "{% for m in messages %}{% if m."
        + key
        + " %}<think>{{ m."
        + key
        + " }}</think>{% endif %}{{ m.content }}{% endfor %}"
    )
    template = ChatTemplate(source, special_tokens={})
    rendering = template.render([Message("user", "q"), Message("assistant", "a", reasoning="because")])
    assert rendering.text == "q<think>because</think>a"
    assert rendering.spans(1, "reasoning") == [(8, 15)]
    assert template.shows_reasoning


def test_ignored_reasoning_is_told():
    assert not ChatTemplate(CHATML, special_tokens={}).shows_reasoning


def test_thinking_part_is_made_where_a_template_reads_parts_of_thinking():
    source = (
        "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
        "{% if p.type == 'thinking' %}[{{ p.thinking }}]{% else %}{{ p.text }}{% endif %}{% endfor %}{% endif %}{% endfor %}"
    )
    rendering = ChatTemplate(source, special_tokens={}).render(
        [Message("user", "q"), Message("assistant", "a", reasoning="r")]
    )
    assert rendering.text == "q[r]a"


def test_text_is_given_as_a_part_to_a_template_that_takes_only_parts():
    source = "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}"
    assert ChatTemplate(source, special_tokens={}).render([Message("user", "one")]).text == "one"


def test_arguments_are_json_text_where_the_template_cannot_take_a_mapping():
    source = (
        "{% for m in messages %}{{ m.role + ':' + (m.content or '') }}{% for c in m.tool_calls or [] %}"
        "{{ c.function.name + ' ' + c.function.arguments }}{% endfor %}{% endfor %}"
    )
    call = Message("assistant", None, tool_calls=(ToolCall("weather", {"city": "Hà"}),))
    rendering = ChatTemplate(source, special_tokens={}).render([Message("user", "q"), call])
    assert rendering.text == 'user:qassistant:weather {"city": "Hà"}'
    assert [rendering.text[a:b] for a, b in rendering.spans(1, "tool_calls.0.arguments")] == ['{"city": "Hà"}']


def test_call_is_flat_where_the_template_reads_its_name_directly():
    source = "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.name }} {{ c.arguments|tojson }}{% endfor %}{% endfor %}"
    call = Message("assistant", "", tool_calls=(ToolCall("weather", {"city": "Hà"}),))
    assert (
        ChatTemplate(source, special_tokens={}).render([Message("user", "q"), call]).text == 'qweather {"city": "Hà"}'
    )


@pytest.mark.parametrize(
    ("source", "shape"),
    [
        (CHATML, Shape(content="text")),
        ("{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}", Shape(content="parts")),
        (
            "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.name }}{% endfor %}{{ m.content }}{% endfor %}",
            Shape(content="text", call="flat"),
        ),
        (
            "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}"
            "{{ '' + m.content }}{% endfor %}",
            Shape(content="text", no_content="empty"),
        ),
        ("{% for m in messages %}{{ m.content }}{{ m.thought }}{% endfor %}", Shape(content="text", reasoning_keys=("thought",))),
        ("{{ messages|length }}", Shape()),
    ],
)  # fmt: skip
def test_the_shape_is_what_the_probes_show(source: str, shape: Shape):
    assert ChatTemplate(source).shape == shape


def test_a_template_that_refuses_every_probe_has_the_usual_shape():
    template = ChatTemplate("{{ raise_exception('no') }}")
    assert template.shape == Shape()
    with pytest.raises(TemplateError, match="no"):
        template.render([Message("user", "q")])
