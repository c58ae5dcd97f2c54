"""The table of what other tools get wrong, row by row, on every family of templates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.cases import CALLING, REASONING, TALKS, TOOL
from tests.conformance.chats import FAMILIES, chat_of
from tests.conformance.oracle import judge, trained_spans

import instil
from instil.encoding.settings import EncodingSettings
from instil.errors import EncodingError, TemplateError
from instil.template.library import NAMED_TEMPLATES

# what a template itself refuses, and nothing else; every other pair must be exact
UNFIT = {
    "two users in a row":        {"llama-2", "mistral", "gemma"},
    "two answers in a row":      {"llama-2", "mistral", "gemma"},
    "system in the middle":      {"llama-2", "mistral", "gemma", "vicuna", "alpaca"},
    "starts with the assistant": {"llama-2", "mistral", "gemma"},
}  # fmt: skip
TAKES_NO_TOOL_TURN = {"llama-2", "gemma", "vicuna", "alpaca"}
PRINTS_CALLS = {"chatml", "llama-3.1", "mistral"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("row", TALKS)
def test_talk_is_exact_or_refused_by_the_template(family: str, row: str) -> None:
    verdict = judge(chat_of(family), TALKS[row])
    assert verdict.kind == ("unfit" if family in UNFIT.get(row, ()) else "exact"), verdict


@pytest.mark.parametrize("family", FAMILIES)
def test_reasoning_is_exact(family: str) -> None:
    verdict = judge(chat_of(family), REASONING)
    assert verdict.kind == "exact", verdict


@pytest.mark.parametrize("family", FAMILIES)
def test_tool_output_is_never_trained(family: str) -> None:
    verdict = judge(chat_of(family), CALLING, [TOOL])
    if family in TAKES_NO_TOOL_TURN or family in PRINTS_CALLS:
        assert verdict.kind == ("exact" if family in PRINTS_CALLS else "unfit"), verdict
    else:
        assert verdict.kind == "refused", verdict
        assert "does not print" in verdict.detail


@pytest.mark.parametrize("family", FAMILIES)
def test_typed_control_tokens_stay_text_and_are_counted(family: str) -> None:
    chat = chat_of(family)
    for stop in chat.stop_tokens:
        header = sorted(chat.context.controls.guarded - set(chat.stop_tokens))
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
def test_a_call_is_trained_whole_and_its_result_is_context(family: str) -> None:
    chat = chat_of(family)
    if "tool_calls" not in chat.template.names_read:
        pytest.skip("the template prints no tool calls")
    examples = chat.encode({"messages": CALLING, "tools": [TOOL]})
    spans = [chat.decode(each.token_ids[a:b]) for each in examples for a, b in trained_spans(each.weights)]
    assert any("weather" in text and "Hanoi" in text for text in spans)
    assert not any("RESULT-sunny" in text for text in spans)
    assert "RESULT-sunny" in chat.decode(examples[-1].token_ids)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_trailing_question_is_left_out_and_reported(family: str) -> None:
    chat = chat_of(family).with_settings(EncodingSettings())
    assert chat.encode(TALKS["ends with the user"]) == chat.encode(TALKS["ends with the user"][:2])
    assert chat.report.trailing_turns == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_over_the_limit_is_never_cut(family: str) -> None:
    prompt = len(chat_of(family).prompt(TALKS["single turn"][:1]))
    for policy in ("drop", "keep_last_turns", "truncate_answer"):
        chat = chat_of(family).with_settings(EncodingSettings(max_tokens=prompt, too_long=policy))  # type: ignore[arg-type]
        assert chat.encode(TALKS["single turn"]) == []
        assert chat.report.dropped == 1
    with pytest.raises(EncodingError, match=r"data\.max_tokens"):
        chat_of(family).with_settings(EncodingSettings(max_tokens=prompt, too_long="refuse")).encode(
            TALKS["single turn"]
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_over_the_limit_is_cut_without_a_stop_token(family: str) -> None:
    (whole,) = chat_of(family).encode(TALKS["single turn"])
    limit = len(whole.token_ids) - 2
    chat = chat_of(family).with_settings(EncodingSettings(max_tokens=limit, too_long="truncate_answer"))
    (example,) = chat.encode(TALKS["single turn"])
    assert (list(example.token_ids), list(example.weights)) == (whole.token_ids[:limit], whole.weights[:limit])
    assert (example.shortened, example.weights[-1]) == ("truncated_answer", 1.0)
    assert not set(chat.stop_ids) & {
        number for number, weight in zip(example.token_ids, example.weights, strict=True) if weight
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_bos_stands_once_in_a_chat_and_in_a_text_that_brings_it(family: str) -> None:
    chat = chat_of(family)
    bos = chat.tokenizer.bos_token
    if bos is None:
        pytest.skip("the tokenizer has no bos token")
    (example,) = chat.encode(TALKS["single turn"])
    assert list(example.token_ids).count(chat.tokenizer.bos_token_id) == 1
    (text,) = chat.encode({"messages": [{"role": "assistant", "content": bos + "once upon"}], "plain": True})
    assert list(text.token_ids).count(chat.tokenizer.bos_token_id) == 1
    assert text.token_ids[0] == chat.tokenizer.bos_token_id


ROWS: dict[str, dict[str, Any]] = {
    "sharegpt": {"conversations": [{"from": "human", "value": "QUESTION"}, {"from": "gpt", "value": "ANSWER"}]},
    "alpaca": {"instruction": "QUESTION", "input": "", "output": "ANSWER"},
    "prompt and completion": {"prompt": "QUESTION", "completion": "ANSWER"},
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("row", ROWS)
def test_rows_of_other_formats_are_encoded_as_the_conversation_that_they_are(
    family: str, row: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROWS[row]) + "\n")
    chat = chat_of(family)
    messages = [{"role": "user", "content": "QUESTION"}, {"role": "assistant", "content": "ANSWER"}]
    (read,) = [chat.encode(conversation) for conversation in instil.read(str(path))]
    assert [(example.token_ids, example.weights) for example in read] == [
        (example.token_ids, example.weights) for example in chat.encode(messages)
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_one_odd_row_is_refused_in_its_place_and_the_others_are_encoded(family: str) -> None:
    chat = chat_of(family)
    odd = [{"role": "user", "content": "no answer"}]
    encoded = list(chat.encode_many([TALKS["single turn"], odd, TALKS["two turns"]]))
    assert isinstance(encoded[1], EncodingError)
    assert "no assistant turn" in str(encoded[1])
    assert [encoded[0], encoded[2]] == [chat.encode(TALKS["single turn"]), chat.encode(TALKS["two turns"])]


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_invented_where_there_is_no_system_text(family: str) -> None:
    chat = chat_of(family)
    text = chat.render(TALKS["single turn"]).text
    assert text == chat.tokenizer.apply_chat_template(TALKS["single turn"], tokenize=False)
    assert text.count("QUESTION-alpha one") == 1


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
