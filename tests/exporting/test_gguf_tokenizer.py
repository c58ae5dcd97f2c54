"""Which tokenizers llama.cpp knows, and by which name."""

from __future__ import annotations

from typing import Any

import pytest

from instil.errors import ExportError
from instil.exporting.gguf_tokenizer import is_sentencepiece, pre_tokenizer_name


def test_an_unknown_pre_tokenization_is_refused():
    strange = {"model": {"type": "BPE"}, "pre_tokenizer": {"type": "Whitespace"}}
    with pytest.raises(ExportError, match="pre-tokenization is not known"):
        pre_tokenizer_name(strange)
    with pytest.raises(ExportError, match="pre-tokenization"):
        pre_tokenizer_name({"model": {"type": "Unigram"}, "pre_tokenizer": {"type": "ByteLevel"}})


def test_gpt_2_is_known_by_its_byte_level_rule_alone():
    backend: dict[str, Any] = {"model": {"type": "BPE"}, "pre_tokenizer": {"type": "ByteLevel", "use_regex": True}}
    assert pre_tokenizer_name(backend) == "gpt-2"
    backend["pre_tokenizer"]["add_prefix_space"] = True  # llama.cpp would add none
    with pytest.raises(ExportError, match="pre-tokenization is not known"):
        pre_tokenizer_name(backend)


@pytest.mark.parametrize(
    ("model", "mark", "expected"),
    [
        ({"type": "BPE", "byte_fallback": True},      "\u2581", True),
        ({"type": "BPE", "byte_fallback": False},     "\u2581", False),
        ({"type": "BPE", "byte_fallback": True},      " ",      False),
        ({"type": "Unigram", "byte_fallback": True},  "\u2581", False),
    ],
)  # fmt: skip
def test_sentencepiece_bpe_writes_spaces_as_marks_and_unknown_characters_as_bytes(model, mark, expected):
    assert is_sentencepiece({"model": model, "normalizer": {"type": "Prepend", "prepend": mark}}) is expected
