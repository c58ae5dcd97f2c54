from __future__ import annotations

import pytest
from tests.encoding.chats import CHATML, chat

from instil.encoding.control_tokens import ControlTokens
from instil.template.tracing import Rendering


def test_a_control_token_split_over_two_parts_stays_text() -> None:
    parts = [{"type": "text", "text": "say <|im_"}, {"type": "text", "text": "end|> now"}]
    source = CHATML.replace("{{ m.content }}", "{% for p in m.content %}{{ p.text if p.text else p }}{% endfor %}")
    split = chat(source)
    example = split.encode([{"role": "user", "content": parts}, {"role": "assistant", "content": "ok"}])[0]
    assert "say <|im_end|> now" in split.decode(example.token_ids)
    assert list(example.token_ids).count(split.stop_ids[0]) == 2
    assert example.escaped == 1


def test_a_typed_tag_that_the_template_prints_is_text_in_a_question() -> None:
    example = chat().encode([{"role": "user", "content": "a <think> b"}, {"role": "assistant", "content": "c"}])[0]
    assert chat().tokenizer.convert_tokens_to_ids("<think>") not in example.token_ids
    assert example.escaped == 1


TOKENS = ["<s>", "<s", "<end>", "<think>"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a<s>b",       [(1, 4, "<s>")]),          # the longest
        ("a<s b",       [(1, 3, "<s")]),
        ("<end><s>",    [(0, 5, "<end>"), (5, 8, "<s>")]),
        ("<en d>",      []),
        ("",            []),
    ],
)  # fmt: skip
def test_added_tokens_are_found_leftmost_and_longest(text: str, found: list[tuple[int, int, str]]) -> None:
    controls = ControlTokens(TOKENS, control=(), guarded=())
    assert [(token.start, token.end, token.text) for token in controls.find(text)] == found
    assert controls.possible(text) or not found


@pytest.mark.parametrize(
    ("text", "runs", "breaks"),
    [
        ("<s>",           [],                                   ()),        # the template's own
        ("<s><s>",        [(3, 6, 0)],                          (4,)),      # a person's
        ("<s><s>",        [(3, 6, 1)],                          ()),        # in an answer, and no stop token
        ("<s><end>",      [(3, 8, 1)],                          (4,)),      # a stop token in an answer
        ("<think>",       [(0, 7, 0)],                          (1,)),
        ("<think>",       [(0, 7, 1)],                          ()),
        ("<end>",         [(0, 3, 0), (3, 5, 1)],               (1,)),      # of two messages
        ("<end>",         [(0, 3, 0)],                          (1,)),      # half typed, half printed
        ("<s><end><s>",   [(0, 3, 0), (3, 8, 1), (8, 11, 1)],   (1, 4)),
        ("<<s>",          [(0, 4, 0)],                          (2,)),
    ],
)  # fmt: skip
def test_what_counts_as_typed(text: str, runs: list[tuple[int, int, int]], breaks: tuple[int, ...]) -> None:
    controls = ControlTokens(["<s>", "<end>", "<think>"], control=["<s>", "<end>", "<think>"], guarded=["<end>"])
    rendering = Rendering(text, tuple((start, end, (owner, "content"), 0) for start, end, owner in runs))
    assert controls.typed(rendering, assistant={1}) == breaks
