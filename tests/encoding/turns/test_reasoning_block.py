from __future__ import annotations

import pytest

from instil.encoding.turns.reasoning_block import TAG, closing_text, is_closing, supplied_block


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<|START_THINKING|>", "<|END_THINKING|>"),
        ("<|channel>", "<channel|>"), ("◁think▷", "◁/think▷"), ("<|think_start|>", "<|think_end|>"),
    ],
)  # fmt: skip
def test_tags_close_their_own_name_only(opening: str, closing: str) -> None:
    assert is_closing(opening, closing)
    assert not is_closing(opening, "</other>")
    assert not is_closing(closing, opening)
    assert supplied_block(f"A:{opening}\n", "A: b") == (f"{opening}\n", 2)
    assert closing_text(f"{opening}\n", known=[closing, "</other>"]) == f"\n{closing}\n\n"
    assert closing_text(f"{opening}{closing}", known=[]) == ""
    assert closing_text(f"{opening}\n", known=["</other>"]) is None


@pytest.mark.parametrize(
    ("prompt", "text", "expected"),
    [
        ("A:<think>\n",          "A: yes",          ("<think>\n", 2)),
        ("A: <think>",           "A:yes",           ("<think>", 2)),
        ("A:<think></think>",    "A:yes",           ("<think></think>", 2)),
        ("A:<think>",            "A:<thin>yes",     ("<think>", 2)),     # the agreement ends inside the tag
        ("<a>[THINK]",           "<a>yes",          ("[THINK]", 3)),
        ("A:</think>",           "A:yes",           None),              # it closes, and opens nothing
        ("A:<|end|>",            "A:yes",           None),
        ("A:Sure",               "A:yes",           None),
        ("A:",                   "A:yes",           None),
    ],
)  # fmt: skip
def test_a_supplied_block_is_what_the_prompt_has_and_the_rendering_lacks(
    prompt: str, text: str, expected: tuple[str, int] | None
) -> None:
    assert supplied_block(prompt, text) == expected


@pytest.mark.parametrize(
    ("block", "known", "closing"),
    [
        ("<think>",              ["</think>"],                "</think>"),
        ("<think>\n",            ["</think>"],                "\n</think>\n\n"),
        ("<think>\n\n</think>",  [],                          ""),
        ("<think></think>\n\n",  [],                          ""),
        ("<think>",              [],                          None),          # nothing closes it
        ("<think>",              ["</think>", "</think>"],    "</think>"),
        ("<think>",              ["</think>", "[/THINK]"],    "</think>"),    # a known pair decides
        ("<muse>",               ["</muse>"],                 "</muse>"),
        ("<muse>",               ["</muse>", "[/MUSE]"],      None),          # two do
        ("<think>Well,",         ["</think>"],                None),          # the prompt begins the reasoning
        ("<think></think>Well,", ["</think>"],                None),
        ("<think><plan>",        ["</think>"],                None),
    ],
)  # fmt: skip
def test_what_closes_a_block(block: str, known: list[str], closing: str | None) -> None:
    assert closing_text(block, known=known) == closing


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("<think>a</think>",  ["<think>", "</think>"]),
        ("[INST] [/INST]",    ["[INST]", "[/INST]"]),
        ("◁think▷",           ["◁think▷"]),
        ("a < b > c [1] [x]", []),
        ("<|im_start|>",      ["<|im_start|>"]),
    ],
)  # fmt: skip
def test_what_looks_like_a_tag(text: str, tags: list[str]) -> None:
    assert TAG.findall(text) == tags
