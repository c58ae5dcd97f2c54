from __future__ import annotations

import pytest

from instil.conversation import Conversation, Message, Place
from instil.errors import GenerationError, TemplateError
from instil.generation.prompt_length import fit_prompts
from instil.generation.prompts import Prompt


def count_words(conversation: Conversation) -> list[int]:
    """Return one id per word; a conversation that says "refused" is refused."""
    words = " ".join(str(message.content) for message in conversation.messages).split()
    if "refused" in words:
        raise TemplateError("no")
    return list(range(len(words)))


def prompt(*turns: str, system: str | None = None) -> Prompt:
    roles = ["user" if number % 2 == 0 else "assistant" for number in range(len(turns))]
    messages = [Message(role, text) for role, text in zip(roles, turns, strict=True)]
    head = [] if system is None else [Message("system", system)]
    return Prompt(Conversation((*head, *messages), place=Place("rows.jsonl", 7)))


SHORT, LONG = prompt("one two"), prompt("one two three four", "five six", "seven")


@pytest.mark.parametrize(
    ("policy", "kept", "left_out", "shortened"),
    [("drop", [0], [1], []), ("keep_last_turns", [0, 1], [], [1])],
)
def test_what_does_not_fit_is_left_out_or_shortened(policy, kept, left_out, shortened):
    fitted = fit_prompts([SHORT, LONG], count_words, limit=5, too_long=policy)
    assert list(fitted.indices) == kept
    assert [long.index for long in fitted.left_out] == left_out
    assert [long.index for long in fitted.shortened] == shortened
    assert all(len(count_words(fit.conversation)) < 5 for fit in fitted.prompts)
    assert "rows.jsonl:7 (7 tokens)" in fitted.summary()[0]


def test_room_for_one_token_of_the_answer_is_needed():
    assert fit_prompts([SHORT], count_words, limit=3).prompts == (SHORT,)
    assert fit_prompts([SHORT], count_words, limit=2).prompts == ()


def test_the_system_message_stays_and_a_last_turn_that_is_too_long_is_left_out():
    fitted = fit_prompts(
        [prompt("a b c", "d", "e", system="be kind")], count_words, limit=4, too_long="keep_last_turns"
    )
    assert [message.content for message in fitted.prompts[0].conversation.messages] == ["be kind", "e"]
    alone = fit_prompts([prompt("a", "b", "c d e f g")], count_words, limit=4, too_long="keep_last_turns")
    assert alone.prompts == ()
    assert len(alone.left_out) == 1


def test_refuse_names_the_place_and_the_setting():
    with pytest.raises(GenerationError, match=r"rows\.jsonl:7: the prompt has 7 tokens.* too_long=.drop. or keep"):
        fit_prompts([SHORT, LONG], count_words, limit=5, too_long="refuse")


def test_what_the_template_refuses_is_not_a_matter_of_length():
    refused = prompt("refused " * 9)
    assert fit_prompts([refused], count_words, limit=3).prompts == (refused,)


def test_a_model_without_a_context_length_takes_all():
    assert fit_prompts([LONG], count_words, limit=None).prompts == (LONG,)
