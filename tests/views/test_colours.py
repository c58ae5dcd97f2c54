"""Claims about the coloured view of tokens in the terminal."""

from __future__ import annotations

import io
from dataclasses import dataclass

from rich.console import Console

from instil.views.colours import coloured_tokens


@dataclass(frozen=True)
class Token:
    id: int
    text: str
    weight: float = 0.0
    message: int | None = None
    field: str | None = None


CHAT = [
    Token(1, "<|im_start|>"),
    Token(2, "user\n"),
    Token(3, "2 +", message=0, field="content"),
    Token(4, " 2?", message=0, field="content"),
    Token(5, "<|im_end|>"),
    Token(6, "\n"),
    Token(7, "4", 1.0, 1, "content"),
    Token(8, "<|im_end|>", 1.0),
    Token(9, "\n"),
]


def printed(tokens, **how):
    stream = io.StringIO()
    Console(file=stream, width=200, **how).print(coloured_tokens(tokens))
    return stream.getvalue()


def test_trained_tokens_stand_in_brackets_without_any_colour():
    assert coloured_tokens(CHAT).plain == "<|im_start|>user↵\n2·+·2?<|im_end|>↵\n⟦4<|im_end|>⟧↵\n"
    assert "\x1b[" not in printed(CHAT, no_color=True, force_terminal=False)


def test_trained_tokens_are_underlined_and_coloured_in_a_terminal():
    shown = printed(CHAT, force_terminal=True, color_system="truecolor")
    assert "\x1b[1;4;38;2;255;255;255;48;2;0;114;178m4" in shown
    underlined = printed(CHAT, force_terminal=True, color_system="truecolor", no_color=True)
    assert "\x1b[1;4m4" in underlined


def test_a_weight_other_than_one_is_printed_after_its_run():
    tokens = [Token(1, "a", 1.0), Token(2, "b", 0.5), Token(3, "c", 2.0), Token(4, "d")]
    assert coloured_tokens(tokens).plain == "⟦a⟧⟦b⟧×0.5⟦c⟧×2d"


def test_the_closing_bracket_stays_on_the_line_it_closes():
    assert coloured_tokens([Token(1, "a\n", 1.0), Token(2, "b")]).plain == "⟦a↵⟧\nb"


def test_escape_sequences_and_direction_overrides_in_data_are_shown_not_obeyed():
    text = coloured_tokens([Token(1, "\x1b[31mred\u202eder\x9b", 1.0)]).plain
    assert text == "⟦␛[31mred⟨202E⟩der⟨009B⟩⟧"
    assert coloured_tokens([Token(1, "[bold]x[/bold]")]).plain == "[bold]x[/bold]"


def test_spaces_may_stay_spaces():
    assert coloured_tokens([Token(1, "a b\n")], white_space=False).plain == "a b↵\n"
