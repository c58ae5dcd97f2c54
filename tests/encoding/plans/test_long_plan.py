from __future__ import annotations

import pytest
from tests.conformance.chats import FAMILIES, chat_of
from tests.conformance.tokenizers_made import make_tokenizer
from tests.encoding.both_ways import in_batches, one_by_one

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.plans.batch_encoder import BatchEncoder
from instil.encoding.plans.long_plan import make_long_plan
from instil.encoding.plans.shape_plan import make_plan_with_texts


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
