from __future__ import annotations

import pytest
from tests.conformance.chats import chat_of
from tests.encoding.chats import CHATML, chat, chat_with

from instil.conversation import Conversation, Message
from instil.encoding.plans.shape_plan import CONTEXT, Fixed, fill, make_plan, parts_of, shape_of
from instil.template.tracing import Rendering

PLANNED = ("chatml", "llama-3", "phi-3", "zephyr", "mistral", "next header is the stop token")


@pytest.mark.parametrize("family", PLANNED)
def test_plain_conversations_are_planned(family: str) -> None:
    assert make_plan(chat_of(family).context, ("user", "assistant", "user", "assistant")) is not None
    assert make_plan(chat_of(family).context, ("user", CONTEXT, "user", "assistant")) is not None


USER, ANSWER = Message("user", "Hi"), Message("assistant", "Hello")
SHOWN = Message("assistant", "Hello", weight=0.0)


@pytest.mark.parametrize(
    ("conversation", "shape"),
    [
        (Conversation((USER, ANSWER)),                                                ("user", "assistant")),
        (Conversation((Message("system", "Rules"), USER, ANSWER)),                    ("system", "user", "assistant")),
        (Conversation((USER, ANSWER), tools=({"name": "f"},)),                        None),
        (Conversation((ANSWER,), plain=True),                                         None),
        (Conversation((Message("user", ""), ANSWER)),                                 None),
        (Conversation((Message("user", " Hi"), ANSWER)),                              None),
        (Conversation((Message("user", "Hi\n"), ANSWER)),                             None),
        (Conversation((USER, Message("assistant", "Hello", reasoning="Hm"))),         None),
        (Conversation((USER, Message("assistant", "Hello", weight=0.5))),             None),
        (Conversation((USER, SHOWN, USER, ANSWER)),                                   ("user", CONTEXT, "user", "assistant")),
        (Conversation((USER, SHOWN, USER, ANSWER, USER, ANSWER)),                     None),
        (Conversation((USER, SHOWN)),                                                 None),
        (Conversation((Message("user", "Hi", name="ann"), ANSWER)),                   None),
        (Conversation((USER, Message("assistant", "Hello", extra={"prefix": True}))), None),
    ],
)  # fmt: skip
def test_only_plain_text_without_space_at_its_ends_has_a_shape(
    conversation: Conversation, shape: tuple[str, ...] | None
) -> None:
    assert shape_of(conversation) == shape


@pytest.mark.parametrize(
    ("text", "runs", "parts"),
    [
        ("<ab>", ((1, 3, (0, "content"), 0),),                           ("<", 0, ">")),
        ("abcd", ((0, 2, (0, "content"), 0), (2, 4, (1, "content"), 0)), (0, 1)),
        ("<>",   (),                                                     ("<>",)),
        ("<a>",  ((1, 2, (0, "content"), 0),),                           None),  # a part of the content
        ("<b>",  ((1, 2, (0, "content"), 1),),                           None),  # not from its start
        ("<ab>", ((1, 3, (0, "name"), 0),),                              None),  # no content
    ],
)  # fmt: skip
def test_parts_are_literals_and_complete_contents(
    text: str, runs: tuple[tuple[int, int, tuple[int, str], int], ...], parts: tuple[str | int, ...] | None
) -> None:
    assert parts_of(Rendering(text, runs), ["ab", "cd"]) == parts
    if parts is not None:
        assert fill(parts, ["ab", "cd"]) == text


def test_a_plan_trains_the_answer_and_its_stop_token_only() -> None:
    plan = make_plan(chat().context, ("user", "assistant"))
    assert plan is not None
    assert (plan.messages, [example.turns for example in plan.examples]) == ({0, 1}, [(1,)])
    (example,) = plan.examples
    layout = [
        (chat().decode(item.ids), item.trained)
        if isinstance(item, Fixed)
        else (item.parts, item.trained, item.head and chat().decode(item.head))
        for item in example.layout
    ]
    assert layout == [
        ("<|im_start|>",               False),
        (("user\n", 0),                False, None),
        ("<|im_end|>\n<|im_start|>",   False),
        (("assistant\n", 1),           True, "assistant\n"),  # trained behind its head only
        ("<|im_end|>",                 True),
    ]  # fmt: skip


def test_a_plan_holds_for_contents_that_answer_the_templates_questions_alike() -> None:
    source = CHATML.replace("{{ m.content }}", "{{ 'code: ' if 'def ' in m.content }}{{ m.content }}")
    plan = make_plan(chat(source).context, ("user", "assistant"))
    assert plan is not None
    assert plan.holds_for(["Hi", "Hello"])
    assert not plan.holds_for(["Hi", "def f(): pass"])
    assert len(plan.questions) >= 2


@pytest.mark.parametrize("added", ["{{ m.content | length }}", "{{ m.content[0] }}", "{{ m.content | upper }}"])
def test_what_a_template_computes_from_a_content_is_not_planned(added: str) -> None:
    source = CHATML.replace("{{ m.content }}", "{{ m.content }}" + added)
    assert make_plan(chat(source).context, ("user", "assistant")) is None


def test_a_conversation_that_the_assistant_begins_is_not_planned() -> None:
    assert make_plan(chat().context, ("assistant", "user", "assistant")) is None
    assert make_plan(chat_with(max_tokens=100).context, ("user", "assistant")) is not None
