"""Tokens as a person sees them: which block of the conversation each is in, and whether it is trained.

The mask page and the terminal use the blocks; notebooks use `mask_html`. Colour is never the only sign: a trained run
stands in ⟦brackets⟧, and a weight other than 1 follows it as ×0.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from instil.views.html import clipped, escaped, left_out

MOST_TOKENS = 2_000
"""Tokens of one example that a notebook shows: half of them from its beginning, half from its end."""
_MOST_OF_A_TOKEN = 200
LEGEND = (
    "⟦trained⟧ the model learns to write it · plain: a message, only read · grey: printed by the template, only read"
)


class ShownToken(Protocol):
    """The part of a token that a view needs.

    Attributes:
        id: Its id.
        text: Its text. The texts of all tokens, joined, are the rendering.
        weight: Loss weight of predicting it; 0 is context only.
        message: Index of its message, None if the template printed it, -1 for tools and variables.
        field: Field of that message, such as ``content``; None if the template printed it.
    """

    @property
    def id(self) -> int: ...  # noqa: D102
    @property
    def text(self) -> str: ...  # noqa: D102
    @property
    def weight(self) -> float: ...  # noqa: D102
    @property
    def message(self) -> int | None: ...  # noqa: D102
    @property
    def field(self) -> str | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class BareToken:
    """A token of an example whose conversation is not known; its origin is unknown too."""

    id: int
    text: str
    weight: float
    message: int | None = None
    field: str | None = None


def blocks_of(tokens: Sequence[ShownToken], roles: Sequence[str]) -> list[tuple[int, str]]:
    """Split tokens into one block per message, with the template's text around it.

    Only the page uses this. A message's block ends after the control token that follows it, and white space after that.

    Args:
        tokens: The tokens of an example.
        roles: The roles of its conversation's messages.

    Returns:
        Start and name of each block, such as ``1 user``. The first starts at 0.
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


def mask_html(
    tokens: Callable[[int, int], Sequence[ShownToken]],
    weights: Sequence[float],
    blocks: Sequence[tuple[int, str]] = (),
    *,
    limit: int | None = None,
    span: tuple[int, int] | None = None,
) -> str:
    """Return tokens as HTML, coloured and bracketed by whether they are trained. Of a long example, both ends.

    Args:
        tokens: Returns the tokens from a position to another. Only those that are shown are asked for.
        weights: The weight of each token.
        blocks: Start and name of each block, as `blocks_of` returns them; empty if the origin of tokens is unknown.
        limit: Number of tokens behind which the limit on the length is marked; None for no mark.
        span: First position to show, and the position behind the last; None for all.
    """
    start, end = span or (0, len(weights))
    if end - start <= MOST_TOKENS:
        return _range_html(tokens(start, end), start, weights, blocks, limit=limit)
    first, last = start + MOST_TOKENS // 2, end - MOST_TOKENS // 2
    trained = sum(1 for at in range(first, last) if weights[at] > 0)
    inside = f"; the limit of {limit:,} tokens is among them" if limit is not None and first <= limit < last else ""
    middle = left_out(f"{last - first:,} tokens not shown, {trained:,} of them trained{inside}")
    head = _range_html(tokens(start, first), start, weights, blocks, limit=limit)
    return head + middle + _range_html(tokens(last, end), last, weights, blocks, limit=limit)


def sides_html(sides: Sequence[tuple[str, str, str]]) -> str:
    """Return parts beside each other where there is room: title and facts as text, and what they are about as HTML."""
    parts = (
        f'<div class="side {escaped(title)}"><div class="head"><b>{escaped(title)}</b> '
        f'<span class="facts">{escaped(facts)}</span></div>{body}</div>'
        for title, facts, body in sides
    )
    return f'<div class="sides">{"".join(parts)}</div>'


def _range_html(
    tokens: Sequence[ShownToken],
    start: int,
    weights: Sequence[float],
    blocks: Sequence[tuple[int, str]],
    *,
    limit: int | None,
) -> str:
    """Return the blocks of a range of tokens; the first one stands at `start` in its example."""
    parts = []
    known = bool(blocks)
    marks = {} if limit is None else {limit: f'<span class="limit">the limit: {limit:,} tokens</span>'}
    blocks = blocks or [(0, "")]
    ends = [at for at, _ in blocks[1:]] + [len(weights)]
    for (first, name), end in zip(blocks, ends, strict=True):
        shown = range(max(first, start), min(end, start + len(tokens)))
        if not shown:
            continue
        text = "".join(marks.get(at, "") + _token_html(tokens[at - start], at, weights, known=known) for at in shown)
        kind = name.rpartition(" ")[2] if known else "plain"
        who = f'<div class="who">{escaped(name)}</div>' if name else ""
        parts.append(f'<div class="block {escaped(kind)}">{who}<div class="text" dir="auto">{text}</div></div>')
    return "".join(parts)


def _token_html(token: ShownToken, at: int, weights: Sequence[float], *, known: bool) -> str:
    weight = float(weights[at])
    before = float(weights[at - 1]) if at else 0.0
    after = float(weights[at + 1]) if at + 1 < len(weights) else 0.0
    kind = "full" if weight == 1 else "more" if weight > 1 else "part" if weight > 0 else "read"
    if kind == "read" and known and token.message is None:
        kind = "printed"
    signs = '<i class="sign">↵</i>\n'.join(escaped(line) for line in clipped(token.text, _MOST_OF_A_TOKEN).split("\n"))
    title = f"token {at} · id {token.id} · weight {weight:g}" + (f" · {_origin(token)}" if known else "")
    edge = '<b class="edge more">' if weight > 1 else '<b class="edge">'
    opened = f"{edge}⟦</b>" if weight > 0 and before != weight else ""
    closed = f"{edge}⟧{'' if weight == 1 else f'×{weight:g}'}</b>" if weight > 0 and after != weight else ""
    shade = " b" if at % 2 else ""
    return f'{opened}<span class="token {kind}{shade}" title="{escaped(title)}">{signs or "◦"}</span>{closed}'


def _origin(token: ShownToken) -> str:
    if token.message is None:
        return "printed by the template"
    return "tools or template variables" if token.message < 0 else f"message {token.message + 1}, {token.field}"
