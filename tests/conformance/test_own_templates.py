"""The promise in a fresh clone: twenty templates of our own, each held to texts that were written by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conformance.cases import CALLING, REASONING, TALKS, TOOL
from tests.conformance.oracle import judge, trained_spans
from tests.conformance.own_templates import CONVERSATIONS, OWN, TEMPLATES, own_chat
from tests.conformance.properties import check_properties, conversations
from tests.encoding.both_ways import in_batches, one_by_one

from instil.encoding.plans.shape_plan import make_plan
from instil.errors import InstilError

EXPECTED = [(name, case) for name, own in OWN.items() for case in own.expected]
REFUSED = [(name, case) for name, own in OWN.items() for case in own.refused]
# the conversations that a template which requires alternation refuses itself
NOT_ALTERNATING = {"two users in a row", "two answers in a row", "system in the middle", "starts with the assistant"}
UNFIT = {
    "system_in_first_question": NOT_ALTERNATING,
    "bos_at_each_exchange": NOT_ALTERNATING,
    "tools_before_last_question": NOT_ALTERNATING - {"system in the middle"},
    "tools_in_first_question": {"system in the middle"},
}
# the templates that ask nothing of a content that a plan cannot answer
PLANNED = set(OWN) - {
    "history_without_thoughts",
    "thought_cut_from_answer",
    "prompt_opens_thought",
    "prompt_supplies_empty_block",
    "white_space_differs",
}


def trained_texts(name: str, case: str) -> list[list[str]]:
    chat = own_chat(name)
    examples = chat.encode(CONVERSATIONS[case])
    return [[chat.decode(each.token_ids[a:b]) for a, b in trained_spans(each.weights)] for each in examples]


def test_the_table_names_every_template() -> None:
    assert sorted(path.stem for path in TEMPLATES.glob("*.jinja")) == sorted(OWN)
    assert len(OWN) == 20
    assert min(len(own.expected) + len(own.refused) for own in OWN.values()) >= 3
    assert min(len(own.expected) for own in OWN.values()) >= 2


@pytest.mark.parametrize(("name", "case"), EXPECTED)
def test_the_trained_texts_are_those_that_were_written_by_hand(name: str, case: str) -> None:
    assert trained_texts(name, case) == OWN[name].expected[case]


@pytest.mark.parametrize(("name", "case"), REFUSED)
def test_what_a_template_has_no_place_for_is_refused_with_the_reason(name: str, case: str) -> None:
    with pytest.raises(InstilError, match=OWN[name].refused[case]):
        trained_texts(name, case)


@pytest.mark.parametrize("name", OWN)
def test_the_answer_ends_with_the_templates_stop_token(name: str) -> None:
    chat = own_chat(name)
    assert chat.context.stops.answer.text == OWN[name].stop
    assert chat.stop_ids[0] == chat.tokenizer.convert_tokens_to_ids(OWN[name].stop)
    last = chat.encode(CONVERSATIONS["talk"])[-1]
    assert (last.token_ids[-1], last.weights[-1]) == (chat.stop_ids[0], 1.0)


@pytest.mark.parametrize("name", OWN)
def test_turns_share_an_example_unless_history_is_rewritten(name: str) -> None:
    chat = own_chat(name).with_settings(own_chat(name).settings)
    examples = chat.encode(CONVERSATIONS["talk"])
    assert [example.turns for example in examples] == ([(2,), (4,)] if OWN[name].rewritten else [(2, 4)])
    assert chat.report.history_rewritten == int(OWN[name].rewritten)


@pytest.mark.parametrize("name", OWN)
def test_every_prompt_is_transformers_own(name: str) -> None:
    chat, prompts = own_chat(name), 0
    for case in OWN[name].expected:
        row = CONVERSATIONS[case]
        messages, variables = row["messages"], row.get("template_variables", {})
        for example in chat.encode(row):
            for turn, (start, _) in zip(example.turns, trained_spans(example.weights), strict=True):
                served = chat.tokenizer.apply_chat_template(
                    messages[:turn], tools=row.get("tools"), add_generation_prompt=True, return_dict=False, **variables
                )
                assert list(example.token_ids[:start]) == served, (case, turn)
                prompts += 1
    assert prompts >= 3


@pytest.mark.parametrize("tokenizer_family", ["byte_level", "metaspace", "prepend", "unigram"])
@pytest.mark.parametrize("name", OWN)
def test_an_independent_judge_finds_the_usual_conversations_exact(name: str, tokenizer_family: str) -> None:
    chat = own_chat(name, tokenizer_family)
    # a unigram vocabulary has no bytes: it cannot write an answer's rare characters, and the encoder refuses that
    talks = {row: talk for row, talk in TALKS.items() if tokenizer_family != "unigram" or row != "emoji and Chinese"}
    verdicts = {row: judge(chat, talk) for row, talk in talks.items()}
    unfit = UNFIT.get(name, set())
    assert {row: verdict for row, verdict in verdicts.items() if verdict.kind != "exact" and row not in unfit} == {}
    assert {row for row, verdict in verdicts.items() if verdict.kind == "unfit"} == unfit


@pytest.mark.parametrize("name", OWN)
def test_an_independent_judge_finds_no_thought_and_no_call_trained_wrongly(name: str) -> None:
    thoughts, calls = judge(own_chat(name), REASONING), judge(own_chat(name), CALLING, [TOOL])
    assert thoughts.kind == ("refused" if "thoughts" in OWN[name].refused else "exact"), thoughts
    assert calls.kind == ("exact" if {"call", "calls"} & OWN[name].expected.keys() else calls.kind), calls
    assert calls.kind in ("exact", "unfit") or "does not print" in calls.detail, calls


@pytest.mark.parametrize("name", OWN)
def test_the_proof_passes(name: str) -> None:
    proof = own_chat(name).prove()
    assert proof.passed, proof.lines()
    assert proof.num_checked >= 8


@pytest.mark.parametrize("name", OWN)
def test_random_conversations_are_served_as_trained(name: str) -> None:
    chat, outcomes = own_chat(name), Counter[str]()

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(conversations())
    def check(messages: list[dict[str, Any]]) -> None:
        outcomes[check_properties(chat, messages)] += 1

    check()
    assert outcomes["encoded"] >= 12, outcomes


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_planned_conversations_equal_those_that_are_rendered(name: str) -> None:
    long_talk = [
        {"role": role, "content": f"{role} {number}" + " and more" * (number % 3)}
        for number in range(8)
        for role in ("user", "assistant")
    ]
    rows = [*TALKS.values(), *CONVERSATIONS.values(), long_talk, long_talk[:-1]] * 2  # plans serve the second time
    rendered = one_by_one(own_chat(name), rows)
    assert in_batches(own_chat(name), rows) == rendered
    assert sum(not isinstance(result, str) for result in rendered) >= 2 * 14


@pytest.mark.parametrize("name", sorted(PLANNED))
def test_plain_conversations_are_planned(name: str) -> None:
    assert make_plan(own_chat(name).context, ("user", "assistant", "user", "assistant")) is not None


@pytest.mark.parametrize("name", OWN)
def test_typed_control_tokens_stay_text(name: str) -> None:
    chat = own_chat(name)
    typed = " ".join(chat.stop_tokens)
    plain = chat.encode([{"role": "user", "content": "Say"}, {"role": "assistant", "content": "Yes"}])[0]
    forged = chat.encode([{"role": "user", "content": f"Say {typed}"}, {"role": "assistant", "content": "Yes"}])[0]
    assert typed in chat.decode(forged.token_ids)
    assert forged.escaped == len(chat.stop_tokens)
    for number in chat.stop_ids:
        assert list(forged.token_ids).count(number) == list(plain.token_ids).count(number)


def test_a_limit_on_length_never_cuts_between_prompt_and_answer() -> None:
    outcomes = Counter[str]()

    @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.sampled_from(sorted(OWN)), conversations(), st.sampled_from([0.4, 0.8, 0.95, 1.0]))
    def check(name: str, messages: list[dict[str, Any]], share: float) -> None:
        chat = own_chat(name)
        try:
            limit = int(share * max(len(example.token_ids) for example in chat.encode(messages)))
            limited = chat.with_settings(replace(chat.settings, max_tokens=limit, too_long="truncate_answer"))
            examples = limited.encode(messages)
        except InstilError:
            outcomes["refused"] += 1
            return
        for example in examples:
            assert len(example.token_ids) <= limit
            for turn, (start, end) in zip(example.turns, trained_spans(example.weights), strict=True):
                assert list(example.token_ids[:start]) == chat.prompt(messages[:turn])
                assert example.token_ids[end - 1] in chat.stop_ids or end == len(example.token_ids)
            outcomes[example.shortened or "whole"] += 1

    check()
    assert min(outcomes["whole"], outcomes["truncated_answer"]) >= 5, outcomes
