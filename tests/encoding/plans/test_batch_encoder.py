from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conformance.cases import CALLING, REASONING, TALKS, TOOL
from tests.conformance.chats import FAMILIES, all_chats, chat_of
from tests.conformance.properties import TEXTS, conversations
from tests.encoding.both_ways import in_batches, one_by_one


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


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_that_train_the_last_answer_give_what_one_by_one_gives(family: str) -> None:
    chat = chat_of(family)
    last = [_only_the_last(talk) for talk in TALKS.values()]
    assert in_batches(chat, last * 2) == one_by_one(chat, last * 2)


def _only_the_last(talk: list[dict[str, Any]]) -> list[dict[str, Any]]:
    earlier = [turn | ({"weight": 0.0} if turn["role"] == "assistant" else {}) for turn in talk[:-1]]
    return [*earlier, talk[-1]]


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
    given = [TALKS["two turns"], TALKS["ends with the user"], TALKS["single turn"], _only_the_last(TALKS["two turns"])]
    slow, fast = chat.with_settings(chat.settings), chat.with_settings(chat.settings)
    one_by_one(slow, given)
    in_batches(fast, given)
    assert slow.report == fast.report
