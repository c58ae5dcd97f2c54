"""Records become the dictionaries that transformers' templates are given."""

from __future__ import annotations

import pytest
from tests.template.reasoning_names import aliased
from transformers.utils.chat_template_utils import render_jinja_template

from instil.conversation import Message, ToolCall
from instil.data.messages import as_conversation
from instil.template.chat_template import ChatTemplate
from instil.template.message_dicts import Shape, plain_value, to_template_messages, traced_value
from instil.template.traced_text import runs_of

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


@pytest.mark.parametrize("read", ["reasoning_content", "thinking", "reasoning"])
@pytest.mark.parametrize(
    "given", [["reasoning_content"], ["thinking"], ["reasoning"], ["reasoning", "reasoning_content"]]
)
def test_reasoning_in_data_is_handed_over_as_transformers_does(given, read):
    source = "{% for m in messages %}{{ m." + read + " if m." + read + " is defined }}{{ m.content }}{% endfor %}"
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", **dict.fromkeys(given, "r")}]
    ours = ChatTemplate(source, special_tokens={}).render(as_conversation(messages).messages)
    (theirs,), _ = render_jinja_template([aliased(messages)], chat_template=source)
    assert ours.text == theirs


def test_parts_of_text_are_joined_for_a_template_that_takes_only_text():
    rendering = ChatTemplate(CHATML, special_tokens={}).render(
        [Message("user", ({"type": "text", "text": "one"}, {"type": "text", "text": "two"})), Message("assistant", "x")]
    )
    assert rendering.text.startswith("<|im_start|>user\none\ntwo<|im_end|>")
    assert [rendering.text[a:b] for a, b in rendering.spans(0, "content")] == ["one", "two"]


CALL = Message("assistant", None, tool_calls=(ToolCall("f", {"a": "é"}, "1"),))


@pytest.mark.parametrize(
    ("shape", "written"),
    [
        (Shape(), {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": "é"}}}]}),
        (Shape(no_content="empty", arguments="text"),
         {"content": "", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": "é"}'}}]}),
        (Shape(call="flat"),
         {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": "é"}}, "name": "f", "arguments": {"a": "é"}}]}),
    ],
)  # fmt: skip
def test_calls_are_written_in_the_shape(shape, written):
    assert to_template_messages([CALL], shape=shape, traced=False) == [{"role": "assistant"} | written]
    assert to_template_messages([CALL], shape=shape) == [{"role": "assistant"} | written]


@pytest.mark.parametrize(
    ("message", "shape", "written"),
    [
        (Message("user", "a"), Shape(content="parts"), {"content": [{"type": "text", "text": "a"}]}),
        (Message("user", ({"type": "text", "text": "a"},)), Shape(), {"content": [{"type": "text", "text": "a"}]}),
        (Message("user", "a", name="n", extra={"k": 1, "none": None}), Shape(), {"content": "a", "name": "n", "k": 1}),
        (Message("user", "a", reasoning="r"), Shape(reasoning_part=True),
         {"content": [{"type": "thinking", "thinking": "r"}, {"type": "text", "text": "a"}]}),
        (Message("user", "a", reasoning="r"), Shape(reasoning_keys=("thought",)),
         {"content": "a", "thinking": "r", "reasoning_content": "r", "thought": "r"}),
    ],
)  # fmt: skip
def test_contents_and_reasoning_are_written_in_the_shape(message, shape, written):
    assert to_template_messages([message], shape=shape, traced=False) == [{"role": "user"} | written]


def test_every_string_of_a_value_knows_its_field():
    value = traced_value({"a": ["x", 1], "b": ""}, 2, "f")
    assert value == {"a": ["x", 1], "b": ""}
    assert runs_of(value["a"][0]) == ((0, 1, (2, "f.a.0"), 0),)
    assert {key: runs_of(key) for key in value} == {
        "a": ((0, 1, (2, "f.a.key"), 0),),
        "b": ((0, 1, (2, "f.b.key"), 0),),
    }
    assert runs_of(value["b"]) == ()


def test_plain_values_are_plain_dictionaries_and_lists():
    value = plain_value(ToolCall("f", {"a": ({"b": 1},)}).arguments)
    assert value == {"a": [{"b": 1}]}
    assert type(value["a"]) is list
