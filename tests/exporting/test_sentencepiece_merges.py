"""SentencePiece tokenizers in GGUF files: the ids that llama.cpp will make, and what is refused by name."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.corpus import corpus_path, needs_corpus

from instil.errors import ExportError
from instil.exporting.gguf_tokenizer import backend_of, is_sentencepiece
from instil.exporting.sentencepiece_merges import (
    byte_piece,
    cut,
    cut_with_control_tokens,
    piece_scores,
    refuse_other_rules,
)

TEXTS = (
    "Hello world",
    " leading", "  two leading", "trailing  ", "a  b   c    d",
    "\n\nnew\n lines\t\ttabs \r\n",
    "🙂🙂 👩‍👩‍👧 é 你好 日本語 한국어 𝔘",
    "▁under ▁ score▁",
    "12345 $3.14 don't",
    "aaaaaaa abababa",
    "one</s>two<s> three<unk>[INST] four [/INST]",
)  # fmt: skip
PREPENDED = [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]


def small() -> dict[str, Any]:
    """A backend of a few pieces: a, b, ab, aab, ▁, ▁a and the bytes."""
    pieces = ["<unk>", *map(byte_piece, range(256)), "a", "b", "▁", "ab", "▁a", "aab", "▁aab"]
    merges = [["a", "b"], ["▁", "a"], ["a", "ab"], ["▁", "aab"], ["▁a", "ab"]]
    return {
        "model": {
            "type": "BPE",
            "byte_fallback": True,
            "vocab": {piece: at for at, piece in enumerate(pieces)},
            "merges": merges,
        },
        "normalizer": {"type": "Sequence", "normalizers": PREPENDED},
        "pre_tokenizer": None,
        "added_tokens": [{"content": "<unk>", "id": 0, "special": True, "normalized": False}],
    }


@pytest.mark.slow
@needs_corpus(3)
@pytest.mark.parametrize(
    ("name", "prefixed"), [("llama-2-chat", True), ("mistral-7b-instruct-v0.1", True), ("mistral-7b-instruct-v0.3", False)]
)  # fmt: skip
def test_llama_cpps_rules_give_the_tokenizers_own_ids(name, prefixed):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(corpus_path() / "tokenizers" / name))
    backend = backend_of(tokenizer)
    assert is_sentencepiece(backend)
    assert refuse_other_rules(backend) is prefixed
    scores = piece_scores(backend)
    for text in TEXTS:
        given = f"<s>{text}"
        found = cut_with_control_tokens(given, backend=backend, scores=scores, prefixed=prefixed)
        assert found == tokenizer(given, add_special_tokens=False)["input_ids"], text


def test_pieces_are_merged_by_score_and_what_is_unknown_becomes_bytes():
    backend = small()
    vocabulary, scores = backend["model"]["vocab"], piece_scores(backend)
    assert scores == {"ab": 0, "▁a": -1, "aab": -2, "▁aab": -3}
    names = {number: piece for piece, number in vocabulary.items()}
    assert [names[number] for number in cut(" aab é", vocabulary, scores)] == ["▁aab", "▁", "<0xC3>", "<0xA9>"]
    assert [names[number] for number in cut("aaab", vocabulary, scores)] == ["a", "aab"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda b: b.update(normalizer={"type": "NFKC"}), "normalizer NFKC and pre-tokenizer none"),
        (
            lambda b: b.update(
                normalizer=None, pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}
            ),
            r"Metaspace \(always\)",
        ),
        (lambda b: b["model"].update(ignore_merges=True), "sets ignore_merges"),
        (lambda b: b["model"]["vocab"].pop("<0x0A>"), "no piece <0x0A>"),
        (lambda b: b["added_tokens"][0].update(lstrip=True), "'<unk>' is lstrip"),
        (lambda b: b["added_tokens"][0].update(normalized=True), "'<unk>' is normalized"),
    ],
)
def test_rules_that_llama_cpp_has_not_are_refused_by_name(change, says):
    backend = small()
    assert refuse_other_rules(backend)
    change(backend)
    with pytest.raises(ExportError, match=says):
        refuse_other_rules(backend)


def test_merges_that_scores_cannot_say_are_refused():
    short = small()
    short["model"]["merges"].remove(["▁a", "ab"])
    with pytest.raises(ExportError, match="does not merge '▁a' and 'ab'"):
        piece_scores(short)
    mixed = copy.deepcopy(small())
    mixed["model"]["merges"] = [["▁", "aab"], ["a", "b"], ["▁", "a"], ["a", "ab"], ["▁a", "ab"]]
    with pytest.raises(ExportError, match="return to the piece '▁aab'"):
        piece_scores(mixed)
