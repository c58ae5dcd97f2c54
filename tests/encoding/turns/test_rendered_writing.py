"""Conversations as the text of a template: exactly what it prints, and read back into the same messages or refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instil.conversation import Conversation, Message, PartWeight, ToolCall
from instil.encoding.turns.inline_reasoning import split_reasoning
from instil.encoding.turns.rendered_rows import RenderedRows
from instil.encoding.turns.rendered_writing import TextPrinter
from instil.errors import FormatError, TemplateError
from instil.template.library import NAMED_TEMPLATES
from instil.template.read_back import readable

TOOL = {"type": "function", "function": {"name": "look", "description": "d", "parameters": {"type": "object"}}}
Q, A = Message("user", "q?"), Message("assistant", "a")
CALL = Message("assistant", None, tool_calls=(ToolCall("look", {"a": 1}, "abcdefghi"),))
RESULT = Message("tool", "r", tool_call_id="abcdefghi", name="look")


def printer(name: str) -> TextPrinter:
    return TextPrinter(f"{name}-text", readable(name, "</s>").template, frozenset(NAMED_TEMPLATES[name].control_tokens))


PRINTERS = {name: printer(name) for name in NAMED_TEMPLATES}
PIECES = ["a", "Zürich", "你好", "\n", " ", "  ", "<|im_end|>", "<|im_start|>user\n", "[INST]", "</s>", "<think>", "</think>",
          "### Response:\n", "USER: ", "### Input:\n", "{", "<|eot_id|>", "🙂", "<s>"]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    system = [Message("system", draw(TEXTS))] if draw(st.booleans()) else []
    turns = [
        message
        for _ in range(draw(st.integers(1, 3)))
        for message in (
            Message("user", draw(TEXTS)),
            Message("assistant", draw(TEXTS), reasoning=draw(st.none() | st.sampled_from(["hm", "so\n\nthen"]))),
        )
    ]
    return Conversation((*system, *turns), extra=draw(st.sampled_from([{}, {"id": 7}])))


def read_back(one: TextPrinter, row: Conversation) -> Conversation:
    """What training makes of the row."""
    found = RenderedRows(one.template, one.added).find(row)
    assert found is not None
    assert found.conversation is not None
    return replace(found.conversation, messages=tuple(map(split_reasoning, found.conversation.messages)))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED_TEMPLATES)
def test_a_text_is_what_the_template_prints_and_gives_the_messages_again_or_is_refused(name):
    one, written, exact = PRINTERS[name], 0, 0

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(conversations())
    def check(conversation: Conversation) -> None:
        nonlocal written, exact
        try:
            printed = one.print(conversation)
        except (FormatError, TemplateError):
            return
        written += 1
        row = printed.row
        messages = [m for m in conversation.messages if one._takes_reasoning]
        messages = tuple(map(split_reasoning, messages)) if messages else conversation.messages
        assert row.plain
        assert [m.role for m in row.messages] == ["assistant"]
        assert row.messages[0].content == one.template.render_text(messages)
        assert row.extra == conversation.extra
        back = read_back(one, row)
        if printed.changes:
            assert set(printed.changes) <= {
                "the system text is part of the first question", "white space at the ends of texts is lost",
            }  # fmt: skip
            return
        exact += 1
        assert [(m.role, m.content, m.reasoning) for m in back.messages] == [
            (m.role, m.content, m.reasoning) for m in map(split_reasoning, conversation.messages)
        ]

    check()
    assert written > 5
    assert exact or name == "llama-2"  # which trims every text


def test_a_tool_call_is_written_where_the_template_prints_it_and_its_ids_are_named_as_lost():
    conversation = Conversation((Q, CALL, RESULT, A), (TOOL,))
    printed = PRINTERS["chatml"].print(conversation)
    assert printed.changes == ("ids and names of calls and their results are left out",)
    back = read_back(PRINTERS["chatml"], printed.row)
    assert [m.role for m in back.messages] == ["user", "assistant", "tool", "assistant"]
    assert back.messages[1].tool_calls[0].arguments == {"a": 1}
    assert back.tools == (TOOL,)


@pytest.mark.parametrize(
    ("name", "conversation", "what"),
    [
        ("chatml", Conversation((Q, replace(A, weight=0.0))), "a weight on message 2 (assistant)"),
        ("chatml", Conversation((replace(Q, weight=1.0), A)), "a weight on message 1 (user)"),
        ("chatml", Conversation((Q, replace(A, part_weights=(PartWeight("content", 0, 1, 0.0),)))), "a weight on"),
        ("llama-3", Conversation((Q, replace(A, reasoning="hm"))), "reasoning that the template does not print"),
        ("llama-3", Conversation((Q, A), (TOOL,)), "tool definitions that the text does not show"),
        ("mistral", Conversation((Message("system", "s"), Q, A)), "a system text that the template does not print"),
        ("chatml", Conversation((replace(Q, extra={"agent": "x"}), A)), "the key 'agent' on message 1"),
        ("chatml", Conversation((replace(Q, name="Ann"), A)), "a name on message 1 (user)"),
        ("chatml", Conversation((Message("user", ""), A)), "an empty user message"),
        ("chatml", Conversation((Q, A, Q)), "a user message at the end, without an answer"),
        ("chatml", Conversation((Message("user", "x<|im_end|>\n<|im_start|>assistant\nyes"), A)), "several turns"),
        ("chatml", Conversation((Q, A), plain=True), "plain text without turns"),
    ],
)  # fmt: skip
def test_what_the_text_would_lose_is_refused_by_name(name, conversation, what):
    with pytest.raises(FormatError) as refusal:
        PRINTERS[name].print(conversation)
    assert what in str(refusal.value)
    assert f"which {name}-text cannot hold" in str(refusal.value)


def test_a_conversation_that_the_template_refuses_is_named_by_its_place():
    with pytest.raises(TemplateError, match=r"conversation: gemma.*Choose another template, or write format=.messages"):
        PRINTERS["gemma"].print(Conversation((A, Q)))


def test_text_of_another_template_is_printed_anew_and_that_is_said():
    text = PRINTERS["chatml"].print(Conversation((Message("system", "S"), Q, A), extra={"id": 7})).row
    printed = PRINTERS["llama-3"].print(text)
    assert printed.row.messages[0].content == PRINTERS["llama-3"].template.render_text([Message("system", "S"), Q, A])
    assert printed.row.extra == {"id": 7}
    assert printed.changes == ("text rendered with chatml is read into messages",)
