"""The characters of each token, and the ranges that they take in a text."""

from __future__ import annotations

import pytest
from tests.inspection.small_chat import small_chat

from instil.encoding.token_texts import token_spans, token_texts
from instil.errors import EncodingError

TEXTS = ["No, it is 4.", "天气 🎉 ok", "  two\n\nlines ", "<|im_end|>"]


@pytest.mark.parametrize("text", TEXTS)
def test_texts_of_tokens_are_the_text_and_spans_cover_it(text):
    context = small_chat().context
    ids = context.pieces.encode(text)
    assert "".join(token_texts(context, ids)) == text
    spans = token_spans(context, context.pieces.encode("Hi\n"), ids, text, place="row 1")
    assert [start for start, _ in spans] == [0, *(end for _, end in spans[:-1])]
    assert spans[-1][1] == len(text)


def test_a_text_that_the_tokens_do_not_spell_is_refused_and_white_space_may_differ():
    context = small_chat().context
    ids = context.pieces.encode("No, 4.")
    assert token_spans(context, [], ids, "No,  4.", place="row 1")[-1] == (6, 7)
    with pytest.raises(EncodingError, match="row 1: the tokenizer changes this answer"):
        token_spans(context, [], ids, "Na, 4.", place="row 1")
