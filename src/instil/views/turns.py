"""The turns of a conversation as HTML, and on one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from instil.views.html import clipped, escaped, left_out
from instil.views.visible import plain

MOST_TURNS = 40
"""Turns of one conversation that are shown: half of them from its beginning, half from its end."""
LINE = 120
"""Most characters of a record on one line."""


@dataclass(frozen=True, slots=True)
class ShownTurn:
    """One turn, as a person sees it.

    Attributes:
        role: Who speaks.
        text: What is said; empty if there is no text.
        asides: Label and text of what belongs to the turn besides: reasoning, calls.
    """

    role: str
    text: str
    asides: tuple[tuple[str, str], ...] = ()


def turns_html(turn: Callable[[int], ShownTurn], num_turns: int) -> str:
    """Return the turns as HTML; of a long conversation, its beginning and its end.

    Args:
        turn: Returns a turn by its index. Only those that are shown are asked for.
        num_turns: How many there are.
    """
    half = MOST_TURNS // 2
    if num_turns <= MOST_TURNS:
        return "".join(_turn_html(index, turn(index)) for index in range(num_turns))
    head = "".join(_turn_html(index, turn(index)) for index in range(half))
    tail = "".join(_turn_html(index, turn(index)) for index in range(num_turns - half, num_turns))
    return head + left_out(f"{num_turns - 2 * half:,} messages not shown") + tail


def _turn_html(index: int, turn: ShownTurn) -> str:
    role = escaped(turn.role)
    asides = "".join(
        f'<div class="aside">{escaped(label)}: {escaped(clipped(text))}</div>' for label, text in turn.asides
    )
    return (
        f'<div class="block {role}"><div class="who">{index + 1} {role}</div>'
        f'<div class="turn" dir="auto">{escaped(clipped(turn.text))}{asides}</div></div>'
    )


def one_line(name: str, facts: Sequence[str]) -> str:
    """Return a record on one line of at most `LINE` characters.

    Example:
        >>> one_line("Example", ["rows[2]", "48 tokens", "", "21 trained"])
        'Example(rows[2], 48 tokens, 21 trained)'
    """
    text, most = plain(", ".join(fact for fact in facts if fact)), LINE - len(name) - 2
    return f"{name}({text if len(text) <= most else text[: most - 1] + '…'})"
