"""The chat tokenizers that the conformance tests run over: named templates, unusual ones and our own."""

from __future__ import annotations

from functools import cache

from tests.conformance.own_templates import OWN, own_chat
from tests.conformance.tokenizers_made import make_tokenizer
from tests.conformance.unusual import UNUSUAL

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.template.library import NAMED_TEMPLATES

OWN_EOS = {
    "llama-3": "<|end_of_text|>",
    "llama-3.1": "<|end_of_text|>",
    "gemma": "<eos>",
    "phi-3": "<|endoftext|>",
    "chatml": "<|endoftext|>",
}
FAMILIES = (*NAMED_TEMPLATES, "old reasoning dropped", "prompt opens a block", "next header is the stop token")


@cache
def chat_of(family: str) -> ChatTokenizer:
    """Make the chat tokenizer of one of FAMILIES."""
    if family not in NAMED_TEMPLATES:
        return unusual_chat(family)
    named = NAMED_TEMPLATES[family]
    tokenizer = make_tokenizer(
        "byte_level", template=named.source, special=named.control_tokens,
        bos="<s>" if named.prints_bos else "", eos=OWN_EOS.get(family, "</s>"),
    )  # fmt: skip
    return ChatTokenizer.from_tokenizer(tokenizer)


def unusual_chat(name: str, tokenizer_family: str = "byte_level") -> ChatTokenizer:
    """Put one of UNUSUAL on a small tokenizer of a family."""
    unusual = UNUSUAL[name]
    tokenizer = make_tokenizer(
        tokenizer_family,
        template=unusual.source,
        special=unusual.special,
        bos=unusual.bos,
        eos=unusual.eos,
        added=unusual.added,
    )
    return ChatTokenizer.from_tokenizer(tokenizer)


@cache
def all_chats() -> list[ChatTokenizer]:
    """Make every family once, and some unusual templates on tokenizers of other kinds."""
    chats = [chat_of(family) for family in FAMILIES] + [own_chat(name) for name in OWN]
    for family in ("byte_level_nfc", "metaspace", "prepend"):
        for name in ("bos at each exchange", "white space stripped", "users merged", "space after the prompt only"):
            chats.append(unusual_chat(name, family))
    return chats
