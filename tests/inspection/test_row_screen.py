"""Claims about a pair in the terminal: beside each other where it is wide, below each other where it is not, plain in a pipe."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text
from tests.inspection.hand_made import Token

from instil.conversation import Place
from instil.inspection.findings import Finding
from instil.inspection.row_screen import print_row
from instil.inspection.shown_examples import ShownExample
from instil.inspection.shown_rows import ShownRow
from instil.screen.wrapping import wrapped_tokens

PLACE = Place("rows.jsonl", 7)
ROLES = ("user", "assistant")
LONG = "I do not like rivers, so I would rather talk about lakes, which are calm, and wide, and seldom flood anybody."


def side(name, answer, **more):
    prompt = [Token("<|im_start|>user\n"), Token("Name a river.", 0), Token("<|im_end|>\n")]
    words = [Token(f"{word} ", 1, 1.0) for word in answer.split()]
    stop = Token("<|im_end|>", None, 1.0)
    return ShownExample([*prompt, Token("<|im_start|>assistant\n"), *words, stop], ROLES, side=name, pair=1, **more)


ROW = ShownRow(PLACE, (side("chosen", "The Nile."), side("rejected", LONG)))


def printed(row, *, width, terminal=True):
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, highlight=False)
    print_row(console, row)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [100, 120, 200])
def test_a_wide_terminal_shows_both_answers_beside_each_other(width):
    lines = printed(ROW, width=width)
    head = next(line for line in lines if line.startswith("chosen: "))
    assert head.split(" │ ")[0].rstrip() == "chosen: 3 of 7 tokens trained"
    assert head.split(" │ ")[1] == f"rejected: {len(LONG.split()) + 1} of {len(LONG.split()) + 5} tokens trained"
    columns = [line.split(" │") for line in lines[lines.index(head) + 1 :]]
    left, right = ("".join(column[at].strip() for column in columns) for at in (0, 1))
    assert left == "⟦The·Nile.·<|im_end|>⟧"
    assert right == f"⟦{LONG.replace(' ', '·')}·<|im_end|>⟧"
    assert len({line.index("│") for line in lines if "│" in line}) == 1
    assert max(map(len, lines)) <= width


def test_a_narrow_terminal_shows_them_below_each_other_wrapped_between_words():
    lines = printed(ROW, width=80)
    assert not any("│" in line for line in lines)
    assert max(map(len, lines)) <= 80
    start = next(at for at, line in enumerate(lines) if line.startswith("rejected: "))
    assert lines.index("chosen: 3 of 7 tokens trained") < start
    assert "".join(lines[start + 1 :]) == f"⟦{LONG.replace(' ', '·')}·<|im_end|>⟧"
    assert len(lines[start + 1 :]) > 1
    assert all(line.endswith("·") for line in lines[start + 1 : -1])


def test_a_pipe_gets_lines_as_long_as_they_are_and_no_sign_of_colour():
    lines = printed(ROW, width=80, terminal=False)
    assert f"⟦{LONG.replace(' ', '·')}·<|im_end|>⟧" in lines
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize("width", [80, 120])
def test_the_prompt_is_printed_once_with_its_number_of_tokens(width):
    lines = printed(ROW, width=width)
    assert [line for line in lines if "Name·a·river." in line] == ["Name·a·river.<|im_end|>↵"]
    assert "the same for both: 4 tokens, only read" in lines


def test_colours_are_those_of_the_weights():
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system="truecolor")
    print_row(console, ShownRow(PLACE, (side("chosen", "Nile"), side("rejected", "Chad"))))
    shown = console.file.getvalue()
    assert "48;2;0;114;178mNile" in shown
    assert "48;2;0;114;178mChad" in shown
    assert "48;2" not in next(line for line in shown.splitlines() if "Name" in line)


def test_a_pair_that_is_left_out_says_so_with_its_reason():
    reason = "both answers are equal"
    examples = (side("chosen", "Nile", left_out=reason), side("rejected", "Nile", left_out=reason))
    lines = printed(ShownRow(PLACE, examples, (Finding("no_pair", PLACE, "both answers are equal."),)), width=200)
    assert "error: answers that are no pair: both answers are equal." in lines
    assert f"left out ({reason}): nothing of it is trained. Shown as it would be otherwise" in lines
    assert any(line.startswith("chosen: 6 tokens, none trained") for line in lines)


def test_the_limit_is_marked_at_its_own_place_in_the_answer():
    lines = printed(ShownRow(PLACE, (side("chosen", "The Nile.", limit=6), side("rejected", LONG, limit=6))), width=80)
    at = lines.index("──── the limit: 6 tokens ────")
    assert lines[at - 1] == "⟦The·Nile.·"
    assert lines[at + 1] == "<|im_end|>⟧"


def test_pairs_of_one_row_are_numbered():
    again = (*ROW.examples, *(ShownExample(each.tokens, ROLES, side=each.side, pair=2) for each in ROW.examples))
    lines = printed(ShownRow(PLACE, again), width=120)
    assert [line for line in lines if line.startswith("pair ")] == [
        f"pair {number} of 2: the same for both: 4 tokens, only read" for number in (1, 2)
    ]


def test_a_judged_answer_says_how_it_was_judged():
    judged = ShownExample([Token("Hi", 0), Token("Lake.", 1, 1.0)], ROLES, side="rejected")
    assert "judged bad, 2 tokens, 1 trained" in printed(ShownRow(PLACE, (judged,)), width=80)


@pytest.mark.parametrize("width", [1, 7, 20])
@pytest.mark.parametrize(
    "text", ["one·two·three·four", "a·b↵\nc", "尼罗河是世界上最长的河流之一·Nile", "x" * 50, "···········"]
)
def test_wrapping_loses_nothing_and_keeps_to_the_width(text, width):
    lines = wrapped_tokens(Text(text), width)
    assert "".join(line.plain for line in lines) == text.replace("\n", "")
    assert all(line.cell_len <= max(width, 2) for line in lines)
