"""Print a few of the demo's questions with two answers, as both acts do."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from instil.demo.scoring import Judged
from instil.screen import Screen


def print_examples(
    first: Sequence[Judged], second: Sequence[Judged], *, names: tuple[str, str], screen: Screen
) -> None:
    """Print one question of each slice with both answers.

    Args:
        first: Answers to questions.
        second: Other answers to the same questions, in the same order.
        names: What the two kinds of answers are called.
        screen: What to print on.
    """
    seen: set[str] = set()
    for one, other in zip(first, second, strict=True):
        if one.question.slice in seen:
            continue
        seen.add(one.question.slice)
        screen.line()
        screen.line(one_line(one.question.messages), style="bold")
        screen.facts([(f"  {name}", _short(judged.answer)) for name, judged in zip(names, (one, other), strict=True)])


def one_line(messages: Sequence[tuple[str, str]]) -> str:
    """Return (role, text) pairs in one line.

    Example:
        >>> one_line([("user", "1+1?"), ("assistant", "2")])
        'user: 1+1? / assistant: 2'
    """
    return " / ".join(f"{role}: {text}" for role, text in messages)


def _short(answer: str) -> str:
    """Return an answer in one line, cut between words."""
    return textwrap.shorten(answer, 90, placeholder=" …")
