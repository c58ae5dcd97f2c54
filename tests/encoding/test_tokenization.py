from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conformance.properties import TEXTS
from tests.conformance.tokenizers_made import FAMILIES, make_tokenizer
from tests.corpus import corpus_path, needs_corpus

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.tokenization import PieceTokenizer

SPECIAL = ("<|a|>", "<|b|>", "[X]")
MADE = {
    family: make_tokenizer(family, template="", special=SPECIAL, eos="</s>", added=("<t>", "</t>"))
    for family in FAMILIES
}
TOKENS = {family: PieceTokenizer(tokenizer.backend_tokenizer) for family, tokenizer in MADE.items()}
PARTS = st.lists(st.one_of(TEXTS, st.sampled_from([*SPECIAL, "<t>", "</t>", "</s>", " "])), max_size=6)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.sampled_from(FAMILIES), PARTS)
def test_ids_are_those_of_the_tokenizer_itself(family: str, parts: list[str]) -> None:
    tokens = TOKENS[family]
    text = "".join(parts)
    expected = MADE[family].backend_tokenizer.encode(text, add_special_tokens=False).ids
    assert tokens.encode(text) == expected
    tokens.remember_texts([text, text + "x"])
    assert tokens.encode(text + "x") == MADE[family](text + "x", add_special_tokens=False)["input_ids"]


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.sampled_from(["byte_level", "metaspace", "prepend"]), TEXTS, TEXTS)
def test_a_continuation_decodes_to_its_text(family: str, before: str, after: str) -> None:
    tokens, tokenizer = TOKENS[family], MADE[family]
    ids = tokens.encode("|" + before) + tokens.encode_more(after)
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == "|" + before + after


@pytest.mark.parametrize("family", FAMILIES)
def test_a_break_makes_a_control_token_text(family: str) -> None:
    text = "say <|a|> and <t>"
    broken = TOKENS[family].encode(text, [text.index("<|a|>") + 1, text.index("<t>") + 1])
    added = set(MADE[family].added_tokens_decoder)
    assert not set(broken) & (added - {MADE[family].convert_tokens_to_ids("<unk>")})
    assert "".join(MADE[family].decode(broken).split()) == "".join(text.split())


REAL = ("gpt-neox-olmo1", "gpt2", "llama-2-chat", "mistral-7b-instruct-v0.3", "smollm2-instruct", "t5-small")


def real(name: str) -> ChatTokenizer:
    folder = corpus_path()
    assert folder is not None
    return ChatTokenizer.from_pretrained(folder / "tokenizers" / name, template="chatml")


@pytest.mark.slow
@needs_corpus(len(REAL))
@pytest.mark.parametrize("name", REAL)
def test_real_tokenizers_give_their_own_ids_and_texts(name: str) -> None:
    chat = real(name)
    texts = [
        "Hello  world\n\nétude 天空 🌈",
        " leading",
        "a\tb\n",
        "def f(x):\n    return x  # ok\n\n\n",
        "</s> <s>[INST] x",
    ]
    for text in texts:
        assert chat.context.pieces.encode(text) == chat.tokenizer(text, add_special_tokens=False)["input_ids"]
    messages = [
        {"role": "user", "content": texts[0]},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "b"},
    ]
    served = chat.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert chat.prompt(messages) == served


@pytest.mark.slow
@needs_corpus(2)
@pytest.mark.parametrize("name", ["gpt2", "llama-2-chat", "smollm2-instruct"])
def test_ids_equal_the_vectors_of_another_implementation(name: str) -> None:
    folder = corpus_path()
    assert folder is not None
    chat = real(name)
    rows = [json.loads(line) for line in (folder / "tokenizers" / "vectors" / f"{name}.jsonl").read_text().splitlines()]
    assert len(rows) > 20
    for row in rows:
        assert chat.context.pieces.encode(row["text"]) == row["ids"], row


FLAGS = (
    {"lstrip": True},
    {"rstrip": True},
    {"lstrip": True, "rstrip": True},
    {"single_word": True},
    {"normalized": True},
)


@pytest.mark.parametrize("flags", FLAGS, ids=str)
@pytest.mark.parametrize("family", ["byte_level", "metaspace", "prepend"])
def test_whatever_the_flags_of_added_tokens_prompts_are_servings_and_answers_end_with_the_stop_id(
    family: str, flags: dict[str, bool]
) -> None:
    from tests.conformance.cases import TALKS
    from tests.conformance.oracle import judge
    from tokenizers import AddedToken

    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer = make_tokenizer(family, template=template, eos="</s>")
    special = [
        AddedToken(text, special=True, **{"normalized": False, **flags}) for text in ("<|im_start|>", "<|im_end|>")
    ]
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    chat = ChatTokenizer.from_tokenizer(tokenizer)
    assert chat.stop_tokens[0] == "<|im_end|>"
    for name in ("single turn", "two turns", "white space", "leading line break", "brackets"):
        assert judge(chat, TALKS[name]).kind == "exact", name
