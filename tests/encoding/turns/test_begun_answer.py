"""A begun answer: the prompt and the beginning of what training would have the model generate, or a refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.tiny_chat import tiny_tokenizer

import instil
from instil.encoding.settings import EncodingSettings

THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}<think>\n"
    "{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}{{ m.content or '' }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
QUESTION = {"role": "user", "content": "Capital of Peru?"}


def chat(template: str | None = None, **settings: Any) -> instil.ChatTokenizer:
    return instil.ChatTokenizer.from_tokenizer(tiny_tokenizer(), template, settings=EncodingSettings(**settings))


def answer(content: Any = None, **keys: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **keys}


@pytest.mark.parametrize("template", [None, "chatml", "llama-3", "gemma", "zephyr", "phi-3", THINKING])
def test_a_begun_answer_is_the_beginning_of_what_is_trained(template: str | None) -> None:
    tokenizer = chat(template)
    (example,) = tokenizer.encode([QUESTION, answer("Lima is the capital.")])
    begun = tokenizer.begun_answer([QUESTION, answer("Lima is")])
    assert begun.prompt_ids == tokenizer.prompt([QUESTION])
    ids = tokenizer.prompt([QUESTION, answer("Lima is")], continue_final_message=True)
    assert ids == begun.prompt_ids + begun.token_ids
    assert list(example.token_ids[: len(ids)]) == ids
    assert tokenizer.decode(begun.token_ids).endswith("Lima is")
    assert tokenizer.decode(example.token_ids[len(ids) :]).startswith(" the capital.")


def test_reasoning_is_continued_within_its_block() -> None:
    tokenizer = chat(THINKING)
    (example,) = tokenizer.encode([QUESTION, answer("Lima", reasoning="It is on the coast.")])
    ids = tokenizer.prompt([QUESTION, answer(reasoning="It is")], continue_final_message=True)
    assert list(example.token_ids[: len(ids)]) == ids
    assert tokenizer.decode(ids).endswith("<think>\nIt is")
    whole = tokenizer.prompt([QUESTION, answer("<think>Hm</think>Li")], continue_final_message=True)
    assert tokenizer.decode(whole).endswith("<think>\nHm\n</think>\n\nLi")


def test_parts_and_typed_control_tokens_are_continued_as_text() -> None:
    tokenizer = chat()
    text = "Write <|im_end|> like"
    typed = tokenizer.prompt([QUESTION, answer(text)], continue_final_message=True)
    (example,) = tokenizer.encode([QUESTION, answer(text + " this")])
    assert list(example.token_ids[: len(typed)]) == typed
    parts = chat(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}"
        "{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    ids = parts.prompt(
        [QUESTION, answer([{"type": "text", "text": "Li"}, {"type": "text", "text": "ma"}])],
        continue_final_message=True,
    )
    assert parts.decode(ids).endswith("assistant\nLima")


TRIMS = "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}<|im_end|>{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"  # fmt: skip
CALL = [{"type": "function", "function": {"name": "time", "arguments": "{}"}}]


@pytest.mark.parametrize(
    ("template", "messages", "message"),
    [
        (None, [QUESTION], "found a user message"),
        (None, [answer("Lima")], "only a begun answer"),
        (None, [QUESTION, answer("")], "no text to continue"),
        (None, [QUESTION, answer("Now", tool_calls=CALL)], "tool calls"),
        (TRIMS, [QUESTION, answer("Lima is ")], "ends with 'Lima is ', and the template prints 'Lima is'"),
        (THINKING, [QUESTION, answer("<think>It is")], "ends in a reasoning block"),
        (THINKING, [QUESTION, answer("<think>It is</think>")], "ends in a reasoning block"),
    ],
)
def test_what_cannot_be_continued_exactly_is_refused(template: str | None, messages: Any, message: str) -> None:
    with pytest.raises(instil.InstilError, match=message):
        chat(template).prompt(messages, continue_final_message=True)


def test_white_space_that_the_template_keeps_is_kept() -> None:
    tokenizer = chat()
    ids = tokenizer.prompt([QUESTION, answer('{"city": ')], continue_final_message=True)
    assert tokenizer.decode(ids).endswith('assistant\n{"city": ')


def test_plain_text_is_continued_as_it_is() -> None:
    row = {"plain": True, "messages": [{"role": "user", "content": "1 2 3"}, {"role": "assistant", "content": " 4"}]}
    tokenizer = chat()
    assert tokenizer.decode(tokenizer.prompt(row, continue_final_message=True)) == "1 2 3 4"


TEMPLATES = sorted(Path(__file__).parents[2].joinpath("templates").glob("*.jinja"))


@pytest.mark.parametrize(
    "template", [t for t in TEMPLATES if t.stem != "bos_at_each_exchange"], ids=lambda path: path.stem
)
def test_odd_templates_continue_exactly(template: Path) -> None:
    tokenizer = chat(template.read_text())
    (example, *_) = tokenizer.encode([QUESTION, answer("Lima is the capital.")])
    ids = tokenizer.prompt([QUESTION, answer("Lima is")], continue_final_message=True)
    assert list(example.token_ids[: len(ids)]) == ids
    assert tokenizer.decode(example.token_ids[len(ids) :]).startswith(" the capital.")
