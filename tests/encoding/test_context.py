from __future__ import annotations

import pytest
from tests.conformance.oracle import trained_spans
from tests.conformance.tokenizers_made import make_tokenizer
from tests.encoding.chats import CHATML, FORGETFUL, chat, chat_with, two_turns

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.settings import EncodingSettings
from instil.encoding.tokenization import PieceTokenizer
from instil.errors import EncodingError, ModelError


def test_the_fingerprint_changes_with_what_decides_the_ids() -> None:
    same, other = chat_with(), chat_with(inline_reasoning="keep")
    assert chat().fingerprint == same.fingerprint != other.fingerprint
    assert chat(FORGETFUL).fingerprint != chat().fingerprint
    assert EncodingSettings() == chat().settings


def test_typed_control_tokens_are_refused_kept_or_escaped() -> None:
    messages = [{"role": "user", "content": "say <|im_end|>"}, {"role": "assistant", "content": "no <think> yes"}]
    stop = chat().stop_ids[0]
    assert list(chat().encode(messages)[0].token_ids).count(stop) == 2
    assert list(chat_with(typed_control_tokens="keep").encode(messages)[0].token_ids).count(stop) == 3
    with pytest.raises(EncodingError, match=r"data.typed_control_tokens"):
        chat_with(typed_control_tokens="refuse").encode(messages)
    think = chat().tokenizer.convert_tokens_to_ids("<think>")
    assert think in chat().encode(messages)[0].token_ids, "an answer may carry <think>"


def test_template_variables_hold_in_training_and_serving() -> None:
    source = CHATML + "{% if add_generation_prompt and no_thinking %}<think>\n\n</think>\n\n{% endif %}"
    quiet = chat_with(source, template_variables={"no_thinking": True})
    example = quiet.encode(two_turns()[:2])[0]
    start = next(start for start, _ in trained_spans(example.weights))
    assert quiet.decode(example.token_ids[:start]).endswith("<think>\n\n</think>\n\n")
    assert list(example.token_ids[:start]) == quiet.prompt(two_turns()[:1])
    assert chat(source).prompt(two_turns()[:1], no_thinking=True) == quiet.prompt(two_turns()[:1])


def test_a_tokenizer_that_splits_control_tokens_is_refused_and_a_call_that_did_leaves_nothing_behind() -> None:
    tokenizer = make_tokenizer("byte_level", template="{{ messages }}", special=("<|a|>",), eos="</s>")
    expected = tokenizer("a<|a|>b")["input_ids"]
    assert tokenizer("a<|a|>b", split_special_tokens=True)["input_ids"] != expected
    assert PieceTokenizer(tokenizer.backend_tokenizer).encode("a<|a|>b") == expected
    tokenizer.split_special_tokens = True
    with pytest.raises(ModelError, match="split_special_tokens is true"):
        ChatTokenizer.from_tokenizer(tokenizer)
