from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conformance.cases import CALLING, REASONING, TALKS, TOOL
from tests.conformance.chats import FAMILIES, all_chats, chat_of
from tests.conformance.properties import TEXTS, conversations
from tests.conformance.tokenizers_made import make_tokenizer
from tests.encoding.both_ways import in_batches, one_by_one

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.plans.batch_encoder import BatchEncoder
from instil.encoding.plans.long_plan import make_long_plan
from instil.encoding.plans.shape_plan import make_plan, make_plan_with_texts

PLANNED = ("chatml", "llama-3", "phi-3", "zephyr", "mistral", "next header is the stop token")


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_give_what_one_by_one_gives(family: str) -> None:
    chat = chat_of(family)
    given = [
        *TALKS.values(),
        REASONING,
        {"messages": CALLING, "tools": [TOOL]},
        [{"role": "user", "content": "no answer"}],
    ]
    assert in_batches(chat, given * 2) == one_by_one(chat, given * 2)


@pytest.mark.parametrize("family", PLANNED)
def test_plain_conversations_are_planned(family: str) -> None:
    assert make_plan(chat_of(family).context, ("user", "assistant", "user", "assistant")) is not None


@pytest.mark.slow
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.data(), st.lists(conversations(), min_size=1, max_size=4), TEXTS)
def test_random_batches_give_what_one_by_one_gives(data: st.DataObject, given: list[Any], text: str) -> None:
    chat = all_chats()[data.draw(st.integers(0, len(all_chats()) - 1))]
    for each in given:
        each[-1]["content"] = each[-1]["content"].strip() or text.strip() or "x"
    assert in_batches(chat, given) == one_by_one(chat, given)


def test_counts_are_the_same_either_way() -> None:
    chat = chat_of("chatml")
    given = [TALKS["two turns"], TALKS["ends with the user"], TALKS["single turn"]]
    slow, fast = chat.with_settings(chat.settings), chat.with_settings(chat.settings)
    one_by_one(slow, given)
    in_batches(fast, given)
    assert slow.report == fast.report


@pytest.mark.parametrize("family", FAMILIES)
def test_long_chats_give_what_the_slow_way_gives(family: str) -> None:
    chat = chat_of(family)
    talk = [
        {"role": role, "content": f"{role} says {number}" + " and more" * (number % 3)}
        for number in range(10)
        for role in ("user", "assistant")
    ]
    given = [talk, [{"role": "system", "content": "Rules"}, *talk], talk[:-1], talk[1:]]
    assert in_batches(chat, given) == one_by_one(chat, given)


@pytest.mark.parametrize("family", ["chatml", "llama-3", "mistral", "zephyr", "llama-2"])
def test_long_chats_are_planned_from_short_ones(family: str) -> None:
    chat = chat_of(family)
    plan = make_long_plan(
        ("user", "assistant") * 40, plan_short=lambda shape: make_plan_with_texts(chat.context, shape)
    )
    assert plan is not None
    assert len(plan.plan.examples[0].turns) == 40


def test_a_template_that_counts_is_not_planned_from_short_ones() -> None:
    source = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% if loop.index > 9 %}!{% endif %}</s>{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    chat = ChatTokenizer.from_tokenizer(make_tokenizer("byte_level", template=source, eos="</s>"))
    talk = [{"role": role, "content": "x"} for _ in range(9) for role in ("user", "assistant")]
    assert not BatchEncoder(chat.context, chat.report)._may_be_long
    assert in_batches(chat, [talk]) == one_by_one(chat, [talk])
