from __future__ import annotations

from tests.model.chat_tokens import base_tokenizer
from tests.model.tiny import VOCABULARY

from instil.model.chat_tokens import add_chat_tokens


def test_chat_tokens_are_special_and_single() -> None:
    tokenizer = base_tokenizer()
    change = add_chat_tokens(tokenizer, ["<|im_start|>"], stop_token="<|im_end|>")
    assert change.added == ("<|im_start|>", "<|im_end|>")
    assert tokenizer("w5<|im_end|>").input_ids == [5, VOCABULARY + 1]
    assert {"<|im_start|>", "<|im_end|>"} <= set(tokenizer.all_special_tokens)
    assert tokenizer.decode([5, VOCABULARY + 1], skip_special_tokens=True).strip() == "w5"


def test_special_tokens_that_were_there_stay_special() -> None:
    tokenizer = base_tokenizer(VOCABULARY, "<|tool|>")
    add_chat_tokens(tokenizer, ["<|im_start|>"], stop_token="<|im_end|>")
    assert "<|tool|>" in tokenizer.all_special_tokens


def test_stop_token_is_eos_and_never_the_padding() -> None:
    tokenizer = base_tokenizer()
    tokenizer.pad_token = "<eos>"
    change = add_chat_tokens(tokenizer, [], stop_token="<|im_end|>")
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token == change.pad_token == "<eos>"
    keeps = base_tokenizer()
    keeps.pad_token = "<eos>"
    assert add_chat_tokens(keeps, [], stop_token="<eos>").added == ("<|pad|>",)
    assert keeps.pad_token_id == len(keeps) - 1 == keeps.convert_tokens_to_ids("<|pad|>")
    assert keeps.pad_token_id != keeps.eos_token_id


def test_a_tokenizer_that_has_all_is_not_changed_twice() -> None:
    tokenizer = base_tokenizer()
    add_chat_tokens(tokenizer, ["<|im_start|>"], stop_token="<|im_end|>")
    size = len(tokenizer)
    assert add_chat_tokens(tokenizer, ["<|im_start|>"], stop_token="<|im_end|>").added == ()
    assert len(tokenizer) == size
