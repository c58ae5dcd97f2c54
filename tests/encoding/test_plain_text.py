from __future__ import annotations

import pytest
from tests.encoding.chats import chat, trained


def test_plain_text_is_trained_to_its_end() -> None:
    (example,) = chat().encode({"messages": [{"role": "assistant", "content": "once upon a time"}], "plain": True})
    assert chat().decode(example.token_ids) == "once upon a time<|endoftext|>"
    assert list(example.weights) == [0.0] + [1.0] * (len(example.token_ids) - 1)


def test_a_plain_prompt_is_context() -> None:
    row = {"messages": [{"role": "user", "content": "1 + 1 ="}, {"role": "assistant", "content": " 2"}], "plain": True}
    (example,) = chat().encode(row)
    assert trained(chat(), example) == [" 2<|endoftext|>"]
    start = list(example.weights).index(1.0)
    assert chat().prompt({"messages": row["messages"][:1], "plain": True}) == list(example.token_ids[:start])


def test_train_on_last_is_the_same_rule_for_plain_text() -> None:
    texts = [{"role": "user", "content": "1 + 1 ="}, {"role": "assistant", "content": " 2"}]
    more = [{"role": "user", "content": "; 2 + 2 ="}, {"role": "assistant", "content": " 4", "weight": 0.0}]
    assert chat().encode({"messages": [*texts, *more], "plain": True}, train_on="last") == []
    (example,) = chat().encode({"messages": [*texts, *more], "plain": True})
    assert trained(chat(), example) == [" 2"]


@pytest.mark.parametrize("text", ["<s>once", "once"])
def test_text_that_begins_with_bos_gets_no_second_one(text: str) -> None:
    from tokenizers.processors import TemplateProcessing

    own = chat(family="metaspace", bos="<s>")
    own.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", own.tokenizer.bos_token_id)]
    )
    (example,) = own.encode({"messages": [{"role": "assistant", "content": text}], "plain": True})
    assert list(example.token_ids).count(own.tokenizer.bos_token_id) == 1
    assert example.token_ids[0] == own.tokenizer.bos_token_id
