"""Random conversations, over templates and tokenizer families, keep what every change must keep."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conformance.cases import CALLING, REASONING, TALKS, TOOL
from tests.conformance.grammar import Written, templates
from tests.conformance.oracle import judge, squeezed, trained_spans
from tests.conformance.test_peers_rows import FAMILIES
from tests.conformance.test_peers_rows import chat_of as chat_of_family
from tests.conformance.tokenizers_made import make_tokenizer
from tests.conformance.unusual import UNUSUAL
from tests.corpus import corpus_path, needs_corpus

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.settings import EncodingSettings
from instil.errors import InstilError

FAMILIES_OF_TOKENIZERS = ("byte_level", "byte_level_nfc", "metaspace", "prepend")
WORDS = st.text(
    st.one_of(st.sampled_from("ab \n\t.,:[]{}()#'\"é天🌈￿"), st.characters(codec="utf-8", exclude_categories=("Cs",))),
    max_size=24,
)
PIECES = st.sampled_from(
    [
        "answer",
        "### Response:",
        "<b>",
        "</think>x",
        "<think>",
        "user: ",
        "[INST]",
        "{{ x }}",
        "{% raw %}",
        "<",
        "|>",
        "\r\n",
        "  ",
    ]
)
TEXTS = st.lists(st.one_of(WORDS, PIECES), max_size=4).map("".join)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    messages = [{"role": "system", "content": draw(TEXTS)}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 4))):
        messages.append({"role": "user", "content": draw(TEXTS)})
        messages.append({"role": "assistant", "content": draw(TEXTS)})
    if draw(st.integers(0, 4)) == 0:
        messages.append({"role": "user", "content": draw(TEXTS)})
    return messages


@cache
def chats() -> list[ChatTokenizer]:
    made = [chat_of_family(family) for family in FAMILIES]
    for family in ("byte_level_nfc", "metaspace", "prepend"):
        for name in ("bos at each exchange", "white space stripped", "users merged", "space after the prompt only"):
            unusual = UNUSUAL[name]
            tokenizer = make_tokenizer(
                family, template=unusual.source, special=unusual.special, bos=unusual.bos, eos=unusual.eos
            )
            made.append(ChatTokenizer.from_tokenizer(tokenizer))
    return made


def check_properties(chat: ChatTokenizer, messages: list[dict[str, Any]]) -> str:
    """Assert what must hold; give ``refused`` or ``encoded``."""
    try:
        examples = chat.encode(messages)
    except InstilError:
        return "refused"
    controls = {number for number, text in chat.context.added.items() if text in chat.context.controls.control}
    turns = []
    for example in examples:
        ids, weights = list(example.token_ids), list(example.weights)
        assert len(ids) == len(weights)
        assert weights[0] == 0
        for turn, (start, end) in zip(example.turns, trained_spans(weights), strict=True):
            turns.append(turn)
            assert ids[:start] == chat.prompt(messages[:turn])
            assert ids[end - 1] in chat.stop_ids
            assert not set(ids[start : end - 1]) & set(chat.stop_ids)
        text = "".join(str(message["content"]) for message in messages)
        if not any(chat.context.added[number] in text for number in controls):
            assert example.escaped == 0 or example.escaped < 9
    assert sorted(turns) == [
        index for index, message in enumerate(messages) if message["role"] == "assistant" and index
    ]
    return "encoded"


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.data(), conversations())
def test_random_conversations_are_served_as_trained(data: st.DataObject, messages: list[dict[str, Any]]) -> None:
    check_properties(chats()[data.draw(st.integers(0, len(chats()) - 1))], messages)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.data(), conversations(), st.integers(8, 120), st.sampled_from(["drop", "keep_last_turns", "truncate_answer"]))
def test_no_policy_trains_behind_a_cut_header(
    data: st.DataObject, messages: list[dict[str, Any]], limit: int, policy: Any
) -> None:
    chat = chats()[data.draw(st.integers(0, len(chats()) - 1))]
    limited = chat.with_settings(EncodingSettings(max_tokens=limit, too_long=policy))
    try:
        examples = limited.encode(messages)
    except InstilError:
        return
    prompts = {tuple(chat.prompt(before)) for before in _histories(messages)}
    for example in examples:
        assert len(example.token_ids) <= limit
        spans = list(trained_spans(example.weights))
        assert spans
        for start, end in spans:
            assert tuple(example.token_ids[:start]) in prompts, "the prompt of what is trained is none of serving's"
            finished = example.token_ids[end - 1] in chat.stop_ids
            assert finished or (example.shortened == "truncated_answer" and end == len(example.token_ids))


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


@cache
def corpus_chats() -> list[tuple[str, ChatTokenizer]]:
    folder = corpus_path()
    assert folder is not None
    entries = json.loads((folder / "templates" / "index.json").read_text())
    chosen = [entry for entry in entries if entry["kind"] == "published" and entry["renders"].get("basic") == "ok"][::6]
    made = []
    for number, entry in enumerate(chosen):
        source = (folder / "templates" / entry["file"]).read_text(encoding="utf-8")
        family = ("byte_level", "byte_level_nfc", "metaspace", "prepend")[number % 4]
        family = (
            "byte_level" if "▁" in source + str(entry["eos_token"]) else family
        )  # SentencePiece's decoders write it as a space
        marks = tuple(sorted(_marks(source)))
        tokenizer = make_tokenizer(
            family, template=source, special=marks, bos=entry["bos_token"] or "", eos=entry["eos_token"] or "</s>"
        )
        made.append((entry["file"], ChatTokenizer.from_tokenizer(tokenizer)))
    return made


def _marks(source: str) -> set[str]:
    from instil.encoding.turns.reasoning_block import TAG

    return {tag for tag in TAG.findall(source) if "|" in tag or "｜" in tag or "_of_" in tag}


@pytest.mark.slow
@needs_corpus(200)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.data(), conversations())
def test_random_conversations_with_published_templates(data: st.DataObject, messages: list[dict[str, Any]]) -> None:
    made = corpus_chats()
    name, chat = made[data.draw(st.integers(0, len(made) - 1))]
    try:
        check_properties(chat, messages)
    except AssertionError as error:
        raise AssertionError(f"{name}: {error}") from error


@needs_corpus(1)
@pytest.mark.slow
def test_published_templates_are_exact_or_refused() -> None:
    kinds = [judge(chat, messages).kind for _, chat in corpus_chats() for messages in TALKS.values()]
    assert kinds.count("wrong") == 0
    assert kinds.count("refused") <= 0.08 * len(kinds)
    assert squeezed(" a b ") == "ab"


def check_written(written: Written, family: str, messages: list[dict[str, Any]]) -> None:
    """Hold a template that nobody wrote against a drawn conversation and the usual ones."""
    chat = written.chat(family)
    check_properties(chat, messages)
    for name, talk in TALKS.items():
        check_properties(chat, talk)
        verdict = judge(chat, talk)
        assert verdict.kind != "wrong", (name, verdict)
    assert judge(chat, REASONING).kind != "wrong"
    assert judge(chat, CALLING, [TOOL]).kind != "wrong"


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(templates(), st.sampled_from(FAMILIES_OF_TOKENIZERS), conversations())
def test_templates_that_nobody_wrote_are_exact_or_refused(
    written: Written, family: str, messages: list[dict[str, Any]]
) -> None:
    check_written(written, family, messages)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(templates(), st.sampled_from(FAMILIES_OF_TOKENIZERS), conversations())
def test_many_templates_that_nobody_wrote_are_exact_or_refused(
    written: Written, family: str, messages: list[dict[str, Any]]
) -> None:
    check_written(written, family, messages)
