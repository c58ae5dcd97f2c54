"""A format string becomes the template that a person would have written by hand, or is refused by name."""

from __future__ import annotations

import pytest

from instil.conversation import Message
from instil.errors import TemplateError
from instil.template.chat_template import ChatTemplate
from instil.template.format_string import Turn, is_format_string, read_format_string

TURNS = [
    Message("system", "S"),
    Message("user", "U"),
    Message("assistant", "A"),
    Message("user", "V"),
    Message("assistant", "B"),
]
READ = [
    (
        "<|system|>{system}\n<|user|>{user}\n<|assistant|>{assistant}",
        "<|system|>S\n<|user|>U\n<|assistant|>A<|end|>\n<|user|>V\n<|assistant|>B<|end|>\n",
    ),
    (
        "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n{assistant}<|im_end|>\n",
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nV<|im_end|>\n"
        "<|im_start|>assistant\nB<|im_end|>\n",
    ),
    ("{system} USER: {user} ASSISTANT: {assistant}</s>", "S USER: U ASSISTANT: A</s>USER: V ASSISTANT: B</s>"),
    (
        "{bos_token}### System:\n{system}\n\n### Instruction:\n{user}\n\n### Response:\n{assistant}{eos_token}\n\n",
        "<s>### System:\nS\n\n### Instruction:\nU\n\n### Response:\nA</s>\n\n### Instruction:\nV\n\n### Response:\nB</s>\n\n",
    ),
    (
        "{system}\n[INST] {user} [/INST] {assistant}</s>",
        "S\n[INST] U [/INST] A</s>[INST] V [/INST] B</s>",
    ),
    ("<sys>{system}</sys><user>{user}</user><bot>{assistant}</bot>", "<sys>S</sys><user>U</user><bot>A</bot><user>V</user><bot>B</bot>"),
    ("<|system|>\\n{system}<|user|>\\n{user}<|assistant|>\\n{assistant}", "<|system|>\nS<|user|>\nU<|assistant|>\nA<|end|><|user|>\nV<|assistant|>\nB<|end|>"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), READ)
def test_format_string_prints_conversations(text, expected):
    template = ChatTemplate(read_format_string(text).source, special_tokens={"bos_token": "<s>", "eos_token": "</s>"})
    rendering = template.render(TURNS)
    assert rendering.text == expected
    for index, message in enumerate(TURNS):
        assert [rendering.text[a:b] for a, b in rendering.spans(index)] == [message.content]
    for length in (2, 4):
        prompt = template.render(TURNS[:length], add_generation_prompt=True).text
        assert expected.startswith(prompt)
        assert expected[len(prompt)] in "AB"


def test_no_system_turn_prints_nothing_of_it():
    template = ChatTemplate(read_format_string(READ[0][0]).source)
    assert template.render(TURNS[1:3]).text == "<|user|>U\n<|assistant|>A<|end|>\n"


def test_preamble_is_printed_once():
    read = read_format_string("Below is an instruction.\n\n### Instruction:\n{user}\n\n### Response:\n{assistant}")
    assert read.preamble == "Below is an instruction.\n\n"
    assert read.turns["user"] == Turn("### Instruction:\n", "\n\n")
    assert ChatTemplate(read.source).render(TURNS[1:]).text.count("Below") == 1


@pytest.mark.parametrize(
    ("text", "stop", "added"),
    [
        ("<|user|>{user}\n<|assistant|>{assistant}", "<|end|>", True),
        ("<|user|>{user}\n<|assistant|>{assistant}<|stop|>\n", "<|stop|>", False),
        ("User: {user}\nBot: {assistant}{eos_token}", "{eos_token}", False),
    ],
)
def test_stop_token_is_read_or_added(text, stop, added):
    read = read_format_string(text)
    assert (read.stop_token, read.stop_added) == (stop, added)
    assert read.turns["assistant"].after.startswith(stop)


def test_stop_token_can_be_asked_for():
    read = read_format_string("User: {user}\nBot: {assistant}", stop_token="<|done|>")
    assert read.turns["assistant"].after == "<|done|>\n"
    assert "<|done|>" in read.control_tokens


def test_control_tokens_are_what_it_prints():
    assert read_format_string(READ[0][0]).control_tokens == ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<|user|>{usr}{assistant}", r"unknown placeholder \{usr\} \(did you mean 'user'\?\)"),
        ("<|user|>{user}", r"\{assistant\} is missing"),
        ("{system}{assistant}", r"\{user\} is missing"),
        ("{user} {user} {assistant}", r"\{user\} occurs 2 times"),
        ("A {assistant} U {user}", "the order is"),
        ("<a>{user}<b><c><d>{assistant}", r"between \{user\} and \{assistant\} is '<b><c><d>'"),
        ("You are helpful.\nTalk: {user}\nReply: {assistant}", r"several lines before \{user\}"),
    ],
)
def test_ambiguous_or_wrong_strings_are_refused_by_name(text, reason):
    with pytest.raises(TemplateError, match="^format string: .*" + reason):
        read_format_string(text)


def test_role_without_a_part_is_refused():
    template = ChatTemplate(read_format_string("U: {user}\nA: {assistant}").source)
    with pytest.raises(TemplateError, match="no part for the role system; it has user, assistant"):
        template.render(TURNS)


def test_jinja_and_names_are_no_format_strings():
    assert not is_format_string("{% for m in messages %}{user}{% endfor %}")
    assert not is_format_string("chatml")
