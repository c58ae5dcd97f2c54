"""Chat tokenizers that the tests of this folder share."""

from __future__ import annotations

from functools import cache
from typing import Any

from tests.conformance.tokenizers_made import make_tokenizer

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.settings import EncodingSettings

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n"
    "{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FORGETFUL = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}<think>\n{{ m.reasoning_content or '' }}"
    "\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|im_start|>", "<|im_end|>")


@cache
def chat(template: str = CHATML, family: str = "byte_level", bos: str = "") -> ChatTokenizer:
    tokenizer = make_tokenizer(
        family, template=template, special=SPECIAL, added=("<think>", "</think>"), bos=bos, eos="<|endoftext|>"
    )
    return ChatTokenizer.from_tokenizer(tokenizer)


def chat_with(template: str = CHATML, family: str = "byte_level", bos: str = "", **settings: Any) -> ChatTokenizer:
    return chat(template, family, bos).with_settings(EncodingSettings(**settings))


def trained(chat: ChatTokenizer, example: Any) -> list[str]:
    """The trained texts of an example, one a span."""
    from tests.conformance.oracle import trained_spans

    return [chat.decode(example.token_ids[start:end]) for start, end in trained_spans(example.weights)]


def two_turns(**second: Any) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "First."},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "Second.", **second},
    ]
