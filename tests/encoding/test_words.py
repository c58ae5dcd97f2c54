from __future__ import annotations

import random
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conformance.tokenizers_made import FAMILIES, make_tokenizer
from tests.corpus import corpus_path, needs_corpus
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from instil.encoding.cuts import find_cuts
from instil.encoding.split_pattern import WIDE, characters, read_pattern
from instil.encoding.tokenization import Tokens
from instil.encoding.words import Words

CONTRACTED = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA_3 = CONTRACTED + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + CONTRACTED + "?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + CONTRACTED + "?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)
MADE: dict[str, tuple[Any, Any]] = {
    "gpt-2": (None, pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "llama-3": (None, [LLAMA_3]),
    "qwen": (normalizers.NFC(), [LLAMA_3.replace("{1,3}", "")]),
    "o200k": (None, [O200K]),
    "deepseek": (None, [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK]),
    "digits": (
        None,
        pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
    ),
    "joins words": (None, [r"\S+ ?|\s+"]),
    "looks back": (None, [r"(?<=a) b|\p{L}+|\s+"]),
    "any case": (None, [r"(?i:[a-z]+[0-9]*)| ?[^a-zA-Z0-9\s]+|[0-9]+|\s+"]),
    "composes": (normalizers.NFC(), ["[a-zA-Z]+|[^a-zA-Z ]+| "]),
    "bytes, then words": (
        None,
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
                pre_tokenizers.Split(Regex(r" ?\p{L}+|\p{N}+|\s+| ?[^\s\p{L}\p{N}]+"), "isolated"),
            ]
        ),
    ),
    "needs an end": (None, [r" ?[^\s]+$| ?\p{L}+|\s+"]),
}
CUT = ("gpt-2", "llama-3", "qwen", "o200k", "deepseek", "digits", "any case", "composes")
SOME = [
    "the",
    "a",
    "can't",
    "won't",
    "I'll",
    "1,250.75",
    "12:30",
    "$5",
    "x=y;",
    "(see)",
    "été",
    "naïve",
    "天空",
    "🌈",
    "foo_bar",
    "A1B2",
    "1e\u0301",
    "=\u0338",
    "...",
    "--",
    "'quoted'",
    "éa",
    "\xa0",
    "\u2003",
    "\u3000",
    "\x1c",
    "\x85",
    "K",
    "▁",
    "a▁b",
]
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(SOME),
        st.sampled_from([" ", "  ", "\n", "\n\n", "\t", " \n", "\r\n", "'", "s", ".", ","]),
        st.text(max_size=4),
    ),
    max_size=14,
).flatmap(lambda parts: st.sampled_from([" ".join(parts), "".join(parts)]))


@lru_cache
def made(name: str) -> Tokenizer:
    normalizer, splitter = MADE[name]
    if isinstance(splitter, list):
        splitter = pre_tokenizers.Sequence(
            [*(pre_tokenizers.Split(Regex(each), "isolated") for each in splitter),
             pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )  # fmt: skip
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = splitter
    if normalizer is not None:
        backend.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    chosen = random.Random(0)
    backend.train_from_iterator([" ".join(chosen.choices(SOME, k=9)) for _ in range(60)], trainer)
    backend.add_special_tokens([AddedToken("<s>", normalized=False)])
    return backend


@pytest.mark.parametrize("name", MADE)
def test_cuts_are_found_where_the_tokenizer_proves_them(name: str) -> None:
    cuts = find_cuts(made(name))
    assert (cuts is not None) == (name in CUT)
    assert cuts is None or cuts.finer is not None


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.sampled_from(list(MADE)), st.lists(TEXTS, min_size=1, max_size=3))
def test_ids_put_together_from_words_are_the_whole_texts(name: str, texts: list[str]) -> None:
    backend, tokens = made(name), Tokens(made(name), by_words=True)
    tokens.encode_many(texts)
    for text in texts:
        assert tokens.encode(text) == backend.encode(text, add_special_tokens=False).ids


def test_words_are_used_where_cuts_are_found() -> None:
    used = {name: Tokens(made(name), by_words=True)._words is not None for name in MADE}
    assert used == {name: name in CUT for name in MADE}


@pytest.mark.parametrize("family", FAMILIES)
def test_made_families_are_put_together_from_words(family: str) -> None:
    tokenizer = make_tokenizer(family, template="", special=("<|a|>",), eos="</s>")
    assert isinstance(Tokens(tokenizer.backend_tokenizer, by_words=True)._words, Words)


def test_no_cut_where_a_vocabulary_entry_reaches_across() -> None:
    vocabulary = {text: n for n, text in enumerate(["▁", "a", "b", "x", "a▁", "a▁b"])}
    backend = Tokenizer(models.BPE(vocabulary, [("a", "▁"), ("a▁", "b")]))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    cuts = find_cuts(backend)
    assert cuts is not None
    assert cuts.split.split("xa b x a") == ["xa b", "x", "a"]
    assert Tokens(backend, by_words=True).encode("xa b x a") == backend.encode("xa b x a").ids


def test_no_cut_where_a_normalizer_makes_the_character_that_reaches_across() -> None:
    vocabulary = {each: number for number, each in enumerate(("a", "Å", "▁", "Å▁", "x", "b", "▁b", "?"))}
    backend = Tokenizer(models.BPE(vocabulary, [("Å", "▁"), ("▁", "b")], unk_token="?"))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(split=False, prepend_scheme="never")
    backend.add_special_tokens(["<s>"])
    text = "a\u212b b a b"  # the sign for the unit, which becomes the letter
    tokens = Tokens(backend, by_words=True)
    assert tokens._words is not None
    assert tokens.encode(text) == backend.encode(text).ids == [0, 3, 5, 2, 0, 6]


def test_no_cut_where_an_added_token_holds_a_space() -> None:
    backend = Tokenizer.from_str(made("gpt-2").to_str())
    assert Tokens(backend, by_words=True)._words is not None
    backend.add_tokens(["the can"])
    assert Tokens(backend, by_words=True)._words is None


def test_no_cut_where_tokens_are_dropped_at_random() -> None:
    backend = Tokenizer.from_str(made("gpt-2").to_str())
    backend.model.dropout = 0.5
    assert find_cuts(backend) is None


@pytest.mark.parametrize(
    ("pattern", "joined", "apart"),
    [
        (LLAMA_3, [(" ", "a"), (",", "a"), (",", "\n"), ("1", "2"), ("'", "s")], [("a", " "), ("a", ","), ("a", "1"), ("1", "a"), ("é", " ")]),
        (O200K, [("a", "'"), ("/", "/")], [("a", "1"), ("a", " "), ("a", ",")]),
        (DEEPSEEK, [(",", "a"), (" ", ",")], [("a", ","), ("a", " ")]),
        (r"(?i:'S)", [("'", "s"), ("'", "S")], [("s", "'")]),
        (r"(?i:[a-c]d)", [("b", "D"), ("B", "d")], [("[", "a"), ("e", "d")]),
        (r"[^\S\n]+", [(" ", "\t")], [("a", " "), (" ", "\n"), (" ", "a")]),
        (r"[a-c -]+x{2,3}", [("a", " "), ("x", "x"), ("-", "x")], [("x", "a"), ("d", "a")]),
        (r"\s+(?!\S)", [(" ", "\n"), (" ", "a")], [("a", " ")]),
    ],
)  # fmt: skip
def test_what_a_pattern_joins(pattern: str, joined: list[tuple[str, str]], apart: list[tuple[str, str]]) -> None:
    found = read_pattern(pattern)
    assert found is not None
    for left, right in joined:
        assert found.can_join(characters(left), characters(right)), (left, right)
    for left, right in apart:
        assert not found.can_join(characters(left), characters(right)), (left, right)


@pytest.mark.parametrize("pattern", [r"\bx", "^x", "x$", "(?<=a)b", "(?=a)", "[a&&[b]]", r"(a)\1", "(", "[a", "a)", r"\p{Z}", r"\p{LC}", "(?i:[^a])", "."])  # fmt: skip
def test_what_is_not_understood_gives_no_answer(pattern: str) -> None:
    assert read_pattern(pattern) is None


def test_a_character_is_always_in_a_match_only_if_it_is_one_by_itself() -> None:
    taken = {pattern: read_pattern(pattern).takes(characters("a")) for pattern in ("a", "ab?", "b?a", "a+", "aa", "a(?!\\S)", "b|[^b]", r"\p{L}", "a{2,}")}  # type: ignore[union-attr]  # fmt: skip
    assert [pattern for pattern, takes in taken.items() if takes] == ["a", "ab?", "b?a", "a+", "b|[^b]", r"\p{L}"]
    assert characters("é") == WIDE


REAL = ("gpt2", "llama-2-chat", "llama-3.1-instruct", "mistral-7b-instruct-v0.1", "mistral-7b-instruct-v0.3", "qwen2.5-instruct", "smollm2-instruct")  # fmt: skip


@lru_cache
def real(name: str) -> Tokenizer:
    folder = corpus_path()
    assert folder is not None
    return Tokenizer.from_file(str(folder / "tokenizers" / name / "tokenizer.json"))


@needs_corpus(len(REAL))
@pytest.mark.parametrize("name", REAL)
def test_real_tokenizers_are_put_together_from_words(name: str) -> None:
    backend, tokens = real(name), Tokens(real(name), by_words=True)
    assert tokens._words is not None
    assert (tokens._words._cuts.finer is None) == ("llama-2" in name or "mistral" in name)
    chosen = random.Random(name)
    ends = [" ", " ", " ", "  ", "\n", "\n\n", "", ".\n", " \n ", "\t"]
    texts = ["".join(chosen.choice(SOME) + chosen.choice(ends) for _ in range(60)) for _ in range(60)]
    tokens.encode_many(texts)
    for text in [*texts, *SOME, " ", "", "  x", "x ", "x  "]:
        assert tokens.encode(text) == backend.encode(text, add_special_tokens=False).ids
