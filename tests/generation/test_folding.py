from __future__ import annotations

import pytest

from instil.encoding.turns.inline_reasoning import REASONING_TAGS
from instil.generation.folding import Folding

CASES = {
    "plain text": "plain text",
    "<think>a</think>\n\nb": "b",
    "<thin air": "<thin air",
    "see <tool_call>{}</tool_call>": "see",
    "a <tool": "a <tool",
    "[THINK]x[/THINK]y": "y",
    "<|channel|>analysis<|message|>x<|end|><|start|>assistant<|channel|>final<|message|>y": "y",
    "<think>never closed": "",
    "1 < 2 and [T": "1 < 2 and [T",
}


@pytest.mark.parametrize("text", CASES)
@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_what_is_shown_does_not_depend_on_the_pieces(text, size):
    folding = Folding()
    shown = "".join(folding.push(text[at : at + size]) for at in range(0, len(text), size)) + folding.finish()
    assert shown.rstrip() == CASES[text]


def test_a_block_that_the_prompt_opened_is_folded():
    folding = Folding(in_reasoning=True)
    assert [folding.push(piece) for piece in ("hm", "</think>", "\n\nyes")] == ["", "", "yes"]
    assert not folding.thinking


@pytest.mark.parametrize(("opening", "closing"), REASONING_TAGS, ids=[opening for opening, _ in REASONING_TAGS])
def test_every_pair_of_reasoning_tags_is_folded(opening, closing):
    block = f"{opening}hm{closing}"
    folding = Folding()
    assert "".join(map(folding.push, f"{block}\n\nyes")) + folding.finish() == "yes"
    continued = Folding(in_reasoning=True)
    assert "".join(map(continued.push, f"hm{closing}yes")) + continued.finish() == "yes"
    assert not continued.thinking
