"""Examples as they are shown: their tokens, what is trained, and of preference data both sides of a pair.

`shown_rows` and `shown_sides` make them. The terminal, the mask page and notebooks show them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, TypeAlias

from instil.units import counted
from instil.views.html import escaped, frame
from instil.views.tokens import ShownToken, blocks_of, mask_html, sides_html
from instil.views.turns import one_line

Side: TypeAlias = Literal["chosen", "rejected"]
SIDES: tuple[Side, Side] = ("chosen", "rejected")


@dataclass(frozen=True, slots=True, repr=False)
class ShownExample:
    """One example of a row.

    Attributes:
        tokens: Its tokens, in order.
        roles: The roles of its conversation's messages, in order.
        shortened: How it was shortened, or None.
        limit: The limit that it exceeds, if it was left out for its length: nothing of it is trained, and the weights
            are those that it would have. Else None.
        side: In preference data, whether it ends with the better or the worse answer.
        pair: Number of its pair in the row, from 1; None if it is not a side of a pair.
        left_out: In preference data, why nothing of it is trained; the weights are those that it would have.
    """

    tokens: Sequence[ShownToken]
    roles: Sequence[str] = ()
    shortened: str | None = None
    limit: int | None = None
    side: Side | None = None
    pair: int | None = None
    left_out: str | None = None

    @property
    def num_trained(self) -> int:
        """Number of tokens with a weight above 0; none if it was left out."""
        if self.limit is not None or self.left_out is not None:
            return 0
        return sum(1 for token in self.tokens if token.weight > 0)

    @property
    def counts(self) -> str:
        """Number of tokens and of trained ones, and how it was shortened, in words."""
        tokens = counted(len(self.tokens), "token")
        if self.limit is not None:
            return (
                f"{len(self.tokens):,} of {self.limit:,} tokens: left out, nothing of it is trained. "
                "Shown as it would be with a higher limit"
            )
        if self.left_out is not None:
            return f"{tokens}, none trained: left out ({self.left_out})"
        how = f", shortened: {self.shortened}" if self.shortened else ""
        return f"{tokens}, {self.num_trained:,} trained{how}"

    @property
    def answer(self) -> str:
        """What the example's answer is, in words; empty for an example of supervised fine-tuning."""
        if self.side is None:
            return ""
        if self.pair is not None:
            return self.side
        return "judged good" if self.side == "chosen" else "judged bad"

    def mask(self, start: int = 0, end: int | None = None) -> str:
        """Return the tokens from one position to another as HTML, those that are trained in colour and brackets."""
        weights = [token.weight for token in self.tokens]
        span = (start, len(self.tokens) if end is None else end)
        blocks = blocks_of(self.tokens, self.roles)
        return mask_html(lambda a, b: self.tokens[a:b], weights, blocks, limit=self.limit, span=span)

    def __repr__(self) -> str:
        """Return the sizes on one line."""
        return one_line("ShownExample", [self.answer, self.counts])

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the tokens by message, those that are trained in colour and brackets."""
        return frame("Example", facts=[self.answer, self.counts], body=self.mask())


@dataclass(frozen=True, slots=True, repr=False)
class ShownPair:
    """Both sides of a pair.

    Attributes:
        chosen: The example with the better answer.
        rejected: The example with the worse answer.
    """

    chosen: ShownExample
    rejected: ShownExample

    @property
    def num_common(self) -> int:
        """Number of tokens at the start that are the same in both, and trained in neither.

        If the prompts differ, the common tokens end with the last line that is the same.
        """
        starts = [_first_trained(side.tokens) for side in (self.chosen, self.rejected)]
        at = 0
        while at < min(starts) and self.chosen.tokens[at].id == self.rejected.tokens[at].id:
            at += 1
        if [at, at] == starts:
            return at
        while at and not self.chosen.tokens[at - 1].text.endswith("\n"):
            at -= 1
        return at

    @property
    def left_out(self) -> str:
        """Why the pair is left out, in words; empty if it is used."""
        if self.chosen.limit is not None:
            return "too long"
        return self.chosen.left_out or ""

    @property
    def prompt_counts(self) -> str:
        """Number of tokens that both sides have in common, in words."""
        return f"the same for both: {counted(self.num_common, 'token')}, only read"

    def counts(self, side: Side) -> str:
        """Return the tokens of a side and how many of them are trained, in words."""
        example = self.chosen if side == "chosen" else self.rejected
        if self.left_out:
            return f"{counted(len(example.tokens), 'token')}, none trained"
        how = f", shortened: {example.shortened}" if example.shortened else ""
        return f"{example.num_trained:,} of {counted(len(example.tokens), 'token')} trained{how}"

    def __repr__(self) -> str:
        """Return the sizes on one line."""
        return one_line("ShownPair", self._facts())

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the common prompt once, and both answers beside each other."""
        common = self.num_common
        sides = [
            (side, self.counts(side), example.mask(common))
            for side, example in zip(SIDES, (self.chosen, self.rejected), strict=True)
        ]
        prompt = f'<div class="legend">{escaped(self.prompt_counts)}</div>{self.chosen.mask(0, common)}'
        return frame("Pair", facts=self._facts(), body=prompt + sides_html(sides))

    def _facts(self) -> list[str]:
        reason = f"left out: {self.left_out}" if self.left_out else ""
        return [reason, *(f"{side} {self.counts(side)}" for side in SIDES)]


def parts_of(examples: Sequence[ShownExample]) -> Iterator[ShownPair | ShownExample]:
    """Yield what is shown as one: both sides of a pair, or an example alone.

    A pair of which a side has no example, or several, is not shown as one.
    """
    for number, group in groupby(examples, key=lambda example: example.pair):
        sides = list(group)
        if number is not None and [example.side for example in sides] == list(SIDES):
            yield ShownPair(*sides)
        else:
            yield from sides


def _first_trained(tokens: Sequence[ShownToken]) -> int:
    return next((at for at, token in enumerate(tokens) if token.weight > 0), len(tokens))
