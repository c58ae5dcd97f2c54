"""The table of what other tools get wrong, row by row, on every family of templates."""

from __future__ import annotations

from functools import cache

import pytest
from tests.conformance.cases import CALLING, REASONING, TALKS, TOOL
from tests.conformance.oracle import judge
from tests.conformance.tokenizers_made import make_tokenizer
from tests.conformance.unusual import UNUSUAL

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import EncodingError, TemplateError
from instil.template.library import NAMED_TEMPLATES

OWN_EOS = {
    "llama-3": "<|end_of_text|>",
    "llama-3.1": "<|end_of_text|>",
    "gemma": "<eos>",
    "phi-3": "<|endoftext|>",
    "chatml": "<|endoftext|>",
}
FAMILIES = (*NAMED_TEMPLATES, "old reasoning dropped", "prompt opens a block", "next header is the stop token")


@cache
def chat_of(family: str) -> ChatTokenizer:
    if family in NAMED_TEMPLATES:
        named = NAMED_TEMPLATES[family]
        tokenizer = make_tokenizer(
            "byte_level", template=named.source, special=named.control_tokens,
            bos="<s>" if named.prints_bos else "", eos=OWN_EOS.get(family, "</s>"),
        )  # fmt: skip
    else:
        unusual = UNUSUAL[family]
        tokenizer = make_tokenizer(
            "byte_level", template=unusual.source, special=unusual.special, eos=unusual.eos, added=unusual.added
        )
    return ChatTokenizer.from_tokenizer(tokenizer)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("row", TALKS)
def test_talk_is_exact_or_refused_by_the_template(family: str, row: str) -> None:
    verdict = judge(chat_of(family), TALKS[row])
    assert verdict.kind in ("exact", "unfit"), verdict
    if verdict.kind == "unfit":
        assert row in (
            "two users in a row",
            "two answers in a row",
            "system in the middle",
            "starts with the assistant",
        ), verdict


@pytest.mark.parametrize("family", FAMILIES)
def test_reasoning_is_exact_or_refused_by_name(family: str) -> None:
    verdict = judge(chat_of(family), REASONING)
    assert verdict.kind == "exact" or (verdict.kind == "refused" and "reasoning" in verdict.detail), verdict


@pytest.mark.parametrize("family", FAMILIES)
def test_tool_output_is_never_trained(family: str) -> None:
    verdict = judge(chat_of(family), CALLING, [TOOL])
    assert verdict.kind in ("exact", "unfit") or "does not print" in verdict.detail, verdict


@pytest.mark.parametrize("family", FAMILIES)
def test_typed_control_tokens_stay_text_and_are_counted(family: str) -> None:
    chat = chat_of(family)
    for stop in chat.stop_tokens:
        header = sorted(chat.controls.guarded - set(chat.stop_tokens))
        typed = f"Say {stop} and {header[0] if header else stop}, please"
        plain = chat.encode([{"role": "user", "content": "Say"}, {"role": "assistant", "content": "Yes"}])[0]
        forged = chat.encode([{"role": "user", "content": typed}, {"role": "assistant", "content": f"An{stop}swer"}])[0]
        for number in chat.stop_ids:
            assert list(forged.token_ids).count(number) == list(plain.token_ids).count(number)
        assert forged.escaped == 3
        assert typed in chat.decode(forged.token_ids)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_tools_are_the_same_as_an_empty_list(family: str) -> None:
    messages = TALKS["two turns"]
    assert chat_of(family).encode({"messages": messages, "tools": []}) == chat_of(family).encode({"messages": messages})


@pytest.mark.parametrize("family", FAMILIES)
def test_the_proof_passes(family: str) -> None:
    proof = chat_of(family).prove()
    assert proof.passed, proof.lines()


@pytest.mark.parametrize("family", ["gemma", "llama-3", "chatml"])
def test_the_stop_token_may_differ_from_eos(family: str) -> None:
    chat = chat_of(family)
    assert NAMED_TEMPLATES[family].stop_token in chat.stop_tokens
    example = chat.encode(TALKS["single turn"])[-1]
    assert example.token_ids[-1] in chat.stop_ids
    assert example.weights[-1] == 1.0


def test_a_conversation_without_an_answer_is_refused_by_name() -> None:
    with pytest.raises(EncodingError, match="no assistant turn"):
        chat_of("chatml").encode([{"role": "user", "content": "Hi"}])


def test_the_templates_own_reason_is_given() -> None:
    with pytest.raises(TemplateError, match="take turns"):
        chat_of("llama-2").encode(TALKS["two users in a row"])
