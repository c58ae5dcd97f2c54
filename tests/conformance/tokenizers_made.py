"""Small tokenizers of every family, made in memory: no file and no network."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

FAMILIES = ("byte_level", "byte_level_nfc", "metaspace", "prepend", "unigram")


def make_tokenizer(
    family: str,
    *,
    template: str,
    special: tuple[str, ...] = (),
    bos: str = "",
    eos: str = "",
    added: tuple[str, ...] = (),
) -> Any:
    """Make a transformers tokenizer with control tokens and a chat template."""
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_str(_trained(family))
    names = list(dict.fromkeys(text for text in (bos, eos, *special) if text))
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in names])
    backend.add_tokens([AddedToken(text, special=False, normalized=False) for text in added])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos or None, eos_token=eos or None, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = template
    return tokenizer


@lru_cache
def _trained(family: str) -> str:
    text = [
        Path(__file__).read_text(),
        "天空为什么是蓝色的？ Vâng, đúng vậy 🌈",
        "assistant user system question answer " * 4,
    ]
    if family in ("byte_level", "byte_level_nfc"):
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        if family == "byte_level_nfc":
            backend.normalizer = normalizers.NFC()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer: Any = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    elif family == "unigram":
        backend = Tokenizer(models.Unigram())
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=400,
            unk_token="<unk>",
            special_tokens=["<unk>"],
            show_progress=False,
            initial_alphabet=sorted({c for line in text for c in line} | set(map(chr, range(32, 127))) | {"\n"}),
        )
    else:
        return _with_byte_fallback(family)
    backend.train_from_iterator(text, trainer)
    return backend.to_str()


def _with_byte_fallback(family: str) -> str:
    """A SentencePiece-like BPE: letters, a few merges, bytes for everything else."""
    letters = ["▁", *map(chr, range(33, 127))]
    words = ["▁a", "▁an", "an", "er", "th", "▁th", "in", "▁q", "qu", "es", "ti", "on"]
    vocabulary = {text: n for n, text in enumerate(["<unk>", *(f"<0x{n:02X}>" for n in range(256)), *letters, *words])}
    merges = [("▁", "a"), ("a", "n"), ("▁a", "n"), ("e", "r"), ("t", "h"), ("▁", "th"), ("i", "n"), ("▁", "q"), ("q", "u"),
              ("e", "s"), ("t", "i"), ("o", "n")]  # fmt: skip
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    fallback = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(fallback)
    if family == "metaspace":
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return backend.to_str()
