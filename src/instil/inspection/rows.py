"""The records of one row as it is shown: its examples, their tokens, and what was found in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from instil.conversation import Place
from instil.inspection.colours import ShownToken
from instil.inspection.findings import Finding


@dataclass(frozen=True, slots=True)
class ShownExample:
    """One example of a row.

    Attributes:
        tokens: Its tokens, in order.
        roles: The roles of its conversation's messages, in order.
        shortened: How it was shortened, or None.
    """

    tokens: Sequence[ShownToken]
    roles: Sequence[str] = ()
    shortened: str | None = None

    @property
    def num_trained(self) -> int:
        """Tokens whose weight is not 0."""
        return sum(1 for token in self.tokens if token.weight > 0)


@dataclass(frozen=True, slots=True)
class ShownRow:
    """One row of the data.

    Attributes:
        place: Where it stands.
        examples: What it is encoded to; empty where it was refused.
        findings: What was found in it.
    """

    place: Place
    examples: tuple[ShownExample, ...] = ()
    findings: tuple[Finding, ...] = ()


def blocks_of(tokens: Sequence[ShownToken], roles: Sequence[str]) -> list[tuple[int, str]]:
    """Split tokens into one block a message, what the template prints around it included.

    Only the view uses this: between two messages, a control token right after the first, and white space after that, end the first's block.

    Args:
        tokens: The tokens of an example.
        roles: The roles of its conversation's messages.

    Returns:
        Start of each block, and what it is called (``1 user``); the first starts at 0.
    """
    blocks: list[tuple[int, str]] = []
    current: int | None = None
    printed_from = 0
    for index, token in enumerate(tokens):
        if token.message is None:
            continue
        if token.message != current:
            start = 0 if not blocks else _end_of_turn(tokens, printed_from, index)
            blocks.append((start, _name(token.message, roles)))
            current = token.message
        printed_from = index + 1
    if not blocks and tokens:
        return [(0, "template")]
    end = _end_of_turn(tokens, printed_from, len(tokens)) if blocks else 0
    if end < len(tokens) and blocks:
        blocks.append((end, "template"))
    return blocks


def _end_of_turn(tokens: Sequence[ShownToken], start: int, end: int) -> int:
    at = start
    while at < end and tokens[at].weight > 0:
        at += 1
    if at == start and at < end and _is_control(tokens[at].text):
        at += 1
    while at < end and tokens[at].text and tokens[at].text.isspace():
        at += 1
    return at


def _is_control(text: str) -> bool:
    text = text.strip()
    return len(text) > 2 and text[0] in "<[" and text[-1] in ">]"


def _name(message: int, roles: Sequence[str]) -> str:
    return f"{message + 1} {roles[message]}" if 0 <= message < len(roles) else "tools"
