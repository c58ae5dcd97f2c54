from __future__ import annotations

import pytest
from tests.conformance.tokenizers_made import FAMILIES
from tests.encoding.chats import FORGETFUL, chat, two_turns


@pytest.mark.parametrize("family", FAMILIES)
def test_every_token_of_a_message_knows_its_message_and_field(family: str) -> None:
    own = chat(family=family)
    (explained,) = own.explain(two_turns(reasoning_content="Hm."))
    assert [token.id for token in explained.tokens] == list(explained.example.token_ids)
    by_message: dict[tuple[int | None, str | None], str] = {}
    for token in explained.tokens:
        key = (token.message, token.field)
        by_message[key] = by_message.get(key, "") + token.text
    assert by_message[0, "content"].strip() == "One?"
    assert by_message[3, "content"].strip() == "Second."
    assert by_message[3, "reasoning"].strip() == "Hm."


def test_the_texts_of_the_tokens_are_the_text() -> None:
    messages = [{"role": "user", "content": "天空 🌈 é"}, {"role": "assistant", "content": "由于 🌈🌈 a"}]
    (explained,) = chat().explain(messages)
    assert "".join(token.text for token in explained.tokens) == chat().decode(explained.example.token_ids)


def test_a_rewritten_conversation_is_explained_example_by_example() -> None:
    explained = chat(FORGETFUL).explain(two_turns())
    assert [each.example.turns for each in explained] == [(1,), (3,)]


def test_a_prompt_has_no_weight() -> None:
    tokens = chat().explain_prompt(two_turns()[:1])
    assert [token.id for token in tokens] == chat().prompt(two_turns()[:1])
    assert not any(token.weight for token in tokens)
