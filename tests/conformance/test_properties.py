"""Random conversations, over templates and tokenizer families, keep what every change must keep."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conformance.cases import CALLING, REASONING, TALKS, TOOL
from tests.conformance.chats import all_chats
from tests.conformance.corpus_chats import corpus_chats
from tests.conformance.grammar import Written, templates
from tests.conformance.oracle import judge, squeezed, trained_spans
from tests.conformance.properties import check_properties, conversations
from tests.corpus import needs_corpus

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.settings import EncodingSettings
from instil.errors import InstilError

FAMILIES_OF_TOKENIZERS = ("byte_level", "byte_level_nfc", "metaspace", "prepend")


def test_random_conversations_are_served_as_trained() -> None:
    outcomes = Counter[str]()

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.sampled_from(range(len(all_chats()))), conversations())
    def check(number: int, messages: list[dict[str, Any]]) -> None:
        outcomes[check_properties(all_chats()[number], messages)] += 1

    check()
    assert outcomes["encoded"] >= 140, outcomes


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["drop", "keep_last_turns", "truncate_answer"])
def test_no_policy_trains_behind_a_cut_header(policy: Any) -> None:
    spans = Counter[str]()

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.sampled_from(range(len(all_chats()))), conversations(), st.sampled_from([0.4, 0.8, 0.95, 1.0]))
    def check(number: int, messages: list[dict[str, Any]], share: float) -> None:
        chat = all_chats()[number]
        try:
            limit = int(share * max(len(example.token_ids) for example in chat.encode(messages)))
            examples = chat.with_settings(EncodingSettings(max_tokens=limit, too_long=policy)).encode(messages)
        except InstilError:
            spans["refused"] += 1
            return
        prompts = {tuple(chat.prompt(before)) for before in _histories(messages)}
        for example in examples:
            assert len(example.token_ids) <= limit
            for start, end in trained_spans(example.weights):
                assert tuple(example.token_ids[:start]) in prompts, "the prompt of what is trained is none of serving's"
                finished = example.token_ids[end - 1] in chat.stop_ids
                assert finished or (example.shortened == "truncated_answer" and end == len(example.token_ids))
                spans[example.shortened or "whole"] += 1
        assert all(any(example.weights) for example in examples)

    check()
    shortened = {"keep_last_turns": "kept_last_turns", "truncate_answer": "truncated_answer"}
    assert spans["whole"] >= 10, spans
    assert policy == "drop" or spans[shortened[policy]] >= 5, spans


def _histories(messages: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Every history that serving could be given: whole, or without the oldest exchanges."""
    head = [message for message in messages if message["role"] == "system"]
    rest = [message for message in messages if message["role"] != "system"]
    return [
        head + rest[start:end]
        for start in range(0, len(rest), 2)
        for end in range(start + 1, len(rest) + 1)
        if rest[end - 1]["role"] == "user"
    ]


@pytest.mark.slow
@needs_corpus(200)
def test_random_conversations_with_published_templates() -> None:
    outcomes = Counter[str]()

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.sampled_from(corpus_chats(every=6)), conversations())
    def check(named: tuple[str, ChatTokenizer], messages: list[dict[str, Any]]) -> None:
        name, chat = named
        try:
            outcomes[check_properties(chat, messages)] += 1
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error

    check()
    assert outcomes["encoded"] >= 120, outcomes


@needs_corpus(1)
@pytest.mark.slow
def test_published_templates_are_exact_or_refused() -> None:
    kinds = [judge(chat, messages).kind for _, chat in corpus_chats(every=6) for messages in TALKS.values()]
    assert kinds.count("wrong") == 0
    assert kinds.count("refused") <= 0.08 * len(kinds)
    assert squeezed(" a b ") == "ab"


def check_written(written: Written, family: str, messages: list[dict[str, Any]]) -> Counter[str]:
    """Hold a template that nobody wrote against a drawn conversation and the usual ones, and count what the judge says."""
    chat, kinds = written.chat(family), Counter[str]()
    check_properties(chat, messages)
    for name, talk in TALKS.items():
        check_properties(chat, talk)
        verdict = judge(chat, talk)
        assert verdict.kind != "wrong", (name, verdict)
        kinds[verdict.kind] += 1
    assert judge(chat, REASONING).kind != "wrong"
    assert judge(chat, CALLING, [TOOL]).kind != "wrong"
    return kinds


def check_templates_that_nobody_wrote(max_examples: int) -> None:
    kinds = Counter[str]()

    @settings(max_examples=max_examples, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(templates(), st.sampled_from(FAMILIES_OF_TOKENIZERS), conversations())
    def check(written: Written, family: str, messages: list[dict[str, Any]]) -> None:
        kinds.update(check_written(written, family, messages))

    check()
    assert kinds["exact"] >= 0.6 * max_examples * len(TALKS), kinds


@pytest.mark.slow
def test_templates_that_nobody_wrote_are_exact_or_refused() -> None:
    check_templates_that_nobody_wrote(20)


@pytest.mark.long
@pytest.mark.slow
def test_many_templates_that_nobody_wrote_are_exact_or_refused() -> None:
    check_templates_that_nobody_wrote(150)
