"""Claims about the mask in a notebook: what is trained, by message, of a long example both ends."""

from __future__ import annotations

import copy
import pickle
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.tiny_chat import tiny_tokenizer
from tests.views.parsed import text_of

import instil
from instil.views.tokens import MOST_TOKENS, BareToken, blocks_of, mask_html
from instil.views.turns import LINE

ROOT = Path(__file__).resolve().parents[2]
TALK = [
    {"role": "user", "content": "Say <script>alert(1)</script>"},
    {"role": "assistant", "content": "Hi <b>you</b>"},
]


@pytest.fixture(scope="module")
def chat() -> instil.ChatTokenizer:
    return instil.ChatTokenizer.from_tokenizer(tiny_tokenizer())


@dataclass
class Token:
    text: str
    weight: float = 0.0
    message: int | None = None
    field: str | None = None
    id: int = 7


def test_brackets_are_text_and_name_the_weight():
    weights = [0, 1, 1, 0.5, 2, 0, 1]
    tokens = [Token(letter, weight, 0, "content") for letter, weight in zip("abcdefg", weights, strict=True)]
    page = mask_html(lambda start, end: tokens[start:end], weights, [(0, "1 user")])
    assert text_of(page) == "1 usera⟦bc⟧⟦d⟧×0.5⟦e⟧×2f⟦g⟧"
    kinds = re.findall(r'class="token (\w+)', page)
    assert kinds == ["read", "full", "full", "part", "more", "read", "full"]
    assert 'title="token 3 · id 7 · weight 0.5 · message 1, content"' in page


def test_the_mask_is_that_of_the_labels(chat):
    (explained,) = chat.explain(TALK)
    (example,) = chat.encode(TALK)
    for page in (explained._repr_html_(), example._repr_html_()):
        shown = [int(weight) for weight in re.findall(r"· weight (\d)", page)]
        assert shown == [int(weight) for weight in example.weights]
        assert 0 < sum(shown) < len(shown)
        assert re.findall(r"⟦(.*?)⟧", text_of(page).split("⟦trained⟧")[0], re.DOTALL) == ["Hi <b>you</b><|im_end|>"]
    assert "grey: printed by the template" in text_of(explained._repr_html_())
    assert "2 assistant" in text_of(explained._repr_html_())
    assert chat.explain(TALK)._repr_html_() == explained._repr_html_()


def test_an_example_of_ids_shows_ids_and_says_why():
    page = instil.Example([5, 6, 7], [0.0, 1.0, 1.0])._repr_html_()
    assert "5⟦ 6 7⟧" in text_of(page)
    assert "ids only" in page
    assert "printed by the template" not in page


def test_the_texts_stay_in_this_process(chat):
    (example,) = chat.encode(TALK)
    assert example.token_texts is not None
    assert "ids only" not in example._repr_html_()
    sent = pickle.loads(pickle.dumps(example))
    assert sent == example
    assert sent.token_texts is None
    assert len(pickle.dumps(example)) < 2_000
    assert copy.deepcopy(example).token_texts is example.token_texts
    assert next(chat.encode_many([TALK]))[0] == example


@pytest.mark.slow
def test_a_long_example_shows_both_ends_and_says_what_is_left_out(chat):
    long = [{"role": "user", "content": "word " * 20_000}, {"role": "assistant", "content": "é" * 300}]
    (explained,) = chat.with_settings(chat.settings).explain(long)
    (example,) = chat.encode(long)
    left = len(example.token_ids) - MOST_TOKENS
    assert left > 98_000
    for page in (explained._repr_html_(), example._repr_html_()):
        assert f"{left:,} tokens not shown, 0 of them trained" in page
        assert page.count('class="token') == MOST_TOKENS
        assert len(page) < 350_000
        assert "é" * 3 in text_of(page).replace("◦", "")
        assert text_of(page).count("<|im_start|>") == 2
    middle = instil.Example([1] * 50_000, [0.0] + [1.0] * 49_999)._repr_html_()
    assert "48,000 tokens not shown, 48,000 of them trained" in middle


def test_one_long_token_is_cut():
    page = mask_html(lambda start, end: [BareToken(1, "x" * 10_000, 0.0)], [0.0])
    assert len(page) < 500
    assert "characters not shown" in page


def test_lines_are_short(chat):
    (example,) = chat.encode(TALK)
    trained = sum(weight > 0 for weight in example.weights)
    assert repr(example) == f"Example({len(example.token_ids)} tokens, {trained} trained)"
    shortened = instil.Example([5], [0.0], instil.Place("rows.jsonl", 4), shortened="split", escaped=2)
    assert repr(shortened) == (
        "Example(rows.jsonl:4, 1 token, 0 trained, shortened: split, 2 typed control tokens as text)"
    )
    for record in (example, chat.explain(TALK)[0], shortened):
        assert len(repr(record)) <= LINE
        assert "\n" not in repr(record)


def test_nothing_trained_is_said(chat):
    silent = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho", "weight": 0}]
    explained = chat.explain(silent)
    assert explained == []
    assert "no example" in explained._repr_html_()


def test_blocks_of_no_token():
    assert blocks_of([], ()) == []
    assert mask_html(lambda start, end: [], []) == ""


def test_the_page_on_python_shows_what_is_shown():
    page = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    line, *shown = page.split("```text\nConversation(")[1].split("```")[0].splitlines()
    messages = (instil.Message("user", "What is 2 + 2?"), instil.Message("assistant", "4"))
    conversation = instil.Conversation(messages)
    assert repr(conversation) == f"Conversation({line}"
    explained = instil.ChatTokenizer.from_pretrained("demo", template="chatml").explain(conversation)
    text = text_of(explained._repr_html_())
    assert len(shown) == 5
    assert re.sub(r"\s", "", text).startswith(re.sub(r"\s", "", "".join(shown)))
