from __future__ import annotations

import pytest
from tests.encoding.chats import CHATML, chat, chat_with, trained

from instil.conversation import Message
from instil.encoding.turns.inline_reasoning import CLOSING_TAGS, REASONING_TAGS, carries_reasoning, split_reasoning
from instil.encoding.turns.reasoning_block import TAG, closing_text, is_closing

every_pair = pytest.mark.parametrize(
    ("opening", "closing"), REASONING_TAGS, ids=[opening for opening, _ in REASONING_TAGS]
)


@every_pair
def test_a_block_at_the_beginning_of_an_answer_becomes_reasoning(opening: str, closing: str) -> None:
    message = split_reasoning(Message("assistant", f" {opening}\nHm.\n{closing}\n\nFour {closing}"))
    assert (message.reasoning, message.content) == ("Hm.", f"Four {closing}")
    assert split_reasoning(Message("assistant", f"{opening} {closing}Four")) == Message("assistant", "Four")


@every_pair
def test_a_block_elsewhere_or_half_a_block_stays_text(opening: str, closing: str) -> None:
    for text in (f"Four {opening}Hm.{closing}", f"{opening}Hm.", f"Hm.{closing}Four", "Four"):
        message = Message("assistant", text)
        assert split_reasoning(message) is message
    for message in (Message("user", f"{opening}Hm.{closing}"), Message("assistant", "Four", reasoning="Hm.")):
        assert split_reasoning(message) is message


@every_pair
def test_a_text_that_closes_a_block_carries_reasoning(opening: str, closing: str) -> None:
    assert carries_reasoning(f"Hm.{closing}Four")
    assert not carries_reasoning(f"{opening}Hm.")


@every_pair
def test_the_pattern_for_blocks_that_a_prompt_opens_knows_every_pair(opening: str, closing: str) -> None:
    tag = TAG.match(opening)
    assert tag is not None
    assert TAG.fullmatch(closing)
    assert is_closing(tag.group(), closing)
    if tag.group() == opening:
        assert closing_text(f"{opening}\n", known=[*CLOSING_TAGS, "</judge>"]) == f"\n{closing}\n\n"


@every_pair
def test_reasoning_in_the_text_goes_into_the_block_that_the_prompt_opens(opening: str, closing: str) -> None:
    source = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n" + opening + "\n{% endif %}{# " + closing + " #}"
    )
    answer = f"{opening}\nHm.\n{closing}\n\nFour."
    thinking = chat(source)
    conversation = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": answer}]
    (example,) = thinking.encode(conversation)
    assert trained(thinking, example) == [f"Hm.\n{closing}\n\nFour.<|im_end|>"]


@every_pair
def test_reasoning_that_the_template_cuts_out_of_the_text_is_counted(opening: str, closing: str) -> None:
    cutting = CHATML.replace("{{ m.content }}", "{{ m.content.split('" + closing + "')[-1] }}")
    messages = [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": f"{opening}Hm. </b>{closing}\n\nFour."},
    ]
    for source, ignored in ((cutting, 1), (CHATML, 0)):
        kept = chat_with(source, inline_reasoning="keep")
        kept.encode(messages)
        assert kept.report.reasoning_ignored == ignored


@every_pair
def test_many_conversations_are_split_as_one_is(opening: str, closing: str) -> None:
    question = {"role": "user", "content": "2+2?"}
    plain, split = (
        [question, {"role": "assistant", "content": text}] for text in ("Four.", f"{opening}Hm.{closing}Four.")
    )
    (example,) = chat().encode(split)
    assert trained(chat(), example) == ["<think>\nHm.\n</think>\n\nFour.<|im_end|>"]
    assert list(chat().encode_many([plain, split] * 2)) == [chat().encode(plain), [example]] * 2
