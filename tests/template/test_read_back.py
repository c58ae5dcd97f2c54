"""Claims about reading back: what is read renders to the text again, whatever the template."""

from __future__ import annotations

import re

import pytest

from instil.conversation import Message
from instil.template.chat_template import ChatTemplate
from instil.template.read_back import ReadableTemplate, readable

CHAT = (Message("user", "One?"), Message("assistant", "Two."), Message("user", "Three?"), Message("assistant", "Four."))
NO_HEADER = re.compile(r"(?!)")
REWRITES = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}"
    "{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def test_a_template_that_prints_the_last_turn_differently_is_read_back():
    own = ReadableTemplate(ChatTemplate(REWRITES), "own", is_own=True)
    turns = own.read(own.template.render_text(CHAT), header=NO_HEADER)
    assert turns is not None
    assert turns.messages == CHAT
    assert turns.template == "own"


def test_a_default_system_text_is_no_message():
    source = "{% if messages[0].role != 'system' %}<|system|>Be kind.<|end|>{% endif %}" + REWRITES
    own = ReadableTemplate(ChatTemplate(source), "own", is_own=True)
    turns = own.read(own.template.render_text(CHAT), header=NO_HEADER)
    assert turns is not None
    assert turns.messages == CHAT


def test_a_text_that_ends_with_the_generation_prompt_says_so_and_spans_are_the_contents():
    chatml = readable("chatml", "</s>")
    text = chatml.template.render_text(CHAT[:3], add_generation_prompt=True)
    turns = chatml.read(text, header=NO_HEADER)
    assert turns is not None
    assert turns.ends_with_prompt
    assert [text[start:end] for start, end in turns.spans] == ["One?", "Two.", "Three?"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<|im_end|>\n<|im_start|>assistant", "\n<|im_start|>assistant"),
        ("user\nOne?", "tool\nOne?"),
        ("<|im_start|>", ""),
    ],
)
def test_what_is_not_exactly_a_rendering_is_not_read(old, new):
    chatml = readable("chatml", "</s>")
    text = chatml.template.render_text(CHAT)
    assert chatml.read(text, header=re.compile(r"<\|im_start\|>")) is not None
    assert chatml.read(text.replace(old, new, 1), header=re.compile(r"<\|im_start\|>")) is None
