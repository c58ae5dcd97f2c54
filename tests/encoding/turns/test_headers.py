"""Which tokens are turn headers, and whether a template has a place for reasoning, asked of templates without a tokenizer."""

from __future__ import annotations

import pytest

from instil.encoding.turns.headers import header_tokens, takes_reasoning
from instil.template.chat_template import ChatTemplate

ADDED = ("<s>", "</s>", "<u>", "<a>", "<r>", "<end>", "<think>", "</think>", "<say>", "</say>")
NAMES = "{% set h = {'user': '<u>', 'assistant': '<a>', 'system': '<r>'} %}"
TURNS = NAMES + "{% for m in messages %}{{ h[m.role] }}{{ m.content }}<end>{% endfor %}"
ASK = "{% if add_generation_prompt %}<a>{% endif %}"


@pytest.mark.parametrize(
    ("source", "headers"),
    [
        (TURNS + ASK,                                                      {"<u>", "<a>", "<r>", "<end>"}),
        ("<s>" + TURNS + ASK,                                              {"<s>", "<u>", "<a>", "<r>", "<end>"}),
        # without a generation prompt the model generates its header itself
        (TURNS,                                                            {"<u>", "<r>", "<end>"}),
        # a block that the prompt opens or supplies is no header: an answer may contain its tags
        (TURNS + ASK.replace("<a>", "<a><think>\\n"),                      {"<u>", "<a>", "<r>", "<end>"}),
        (TURNS.replace("m.content }}", "m.content }}</say>").replace("{{ m.c", "<say>{{ m.c") + ASK.replace("<a>", "<a><say>"),
                                                                           {"<u>", "<a>", "<r>", "<end>"}),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", set()),
    ],
)  # fmt: skip
def test_headers_are_the_added_tokens_around_turns(source: str, headers: set[str]) -> None:
    template = ChatTemplate(source, special_tokens={"bos_token": "<s>", "eos_token": "</s>"})
    found = header_tokens(template.render, ADDED, sources=template.sources, bos="<s>", eos="</s>")
    assert found == headers


def test_a_system_turn_that_the_template_refuses_leaves_the_other_headers() -> None:
    source = TURNS.replace("{{ h[", "{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ h[") + ASK
    template = ChatTemplate(source, special_tokens={})
    found = header_tokens(template.render, ADDED, sources=template.sources, bos=None, eos=None)
    assert {"<u>", "<a>"} <= found
    assert "<r>" not in found


THINKS = TURNS.replace("{{ m.content", "{{ m.reasoning_content }}{{ m.content")


@pytest.mark.parametrize(
    ("source", "tags", "expected"),
    [
        (TURNS + ASK,                                        {"</think>"}, False),
        (THINKS + ASK,                                       set(),        True),
        (TURNS + ASK.replace("<a>", "<a><think>"),           {"</think>"}, True),
        (TURNS + ASK.replace("<a>", "<a><think>"),           set(),        False),  # nothing closes it
        (TURNS + ASK.replace("<a>", "<a><think></think>"),   {"</think>"}, False),
        (TURNS.replace("{{ m.c", "<think>{{ m.c").replace("<a>'", "<a><think>'") + ASK.replace("<a>", "<a><think>"), {"</think>"}, False),
    ],
)  # fmt: skip
def test_a_template_takes_reasoning_if_it_prints_it_or_the_prompt_opens_a_block(
    source: str, tags: set[str], expected: bool
) -> None:
    assert takes_reasoning(ChatTemplate(source, special_tokens={}).render, tags=tags) is expected
