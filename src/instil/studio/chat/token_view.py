"""The tokens of a prompt and its answer, as a page shows them: which are trained or generated, and where each is from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_TOKENS = 3_000
"""Tokens that are shown; of a longer prompt the last ones, where the answer is."""


@dataclass(frozen=True, slots=True)
class TokenBlock:
    """A message's tokens with what the template prints around them.

    Attributes:
        name: Its name, such as ``1 user``.
        kind: Its role.
        tokens: What the template of the page shows of each.
    """

    name: str
    kind: str
    tokens: tuple[Mapping[str, Any], ...]


def token_blocks(answer: Mapping[str, Any]) -> list[TokenBlock]:
    """Return the blocks of an answer of ``/instil/tokens``, or of one of its examples."""
    tokens: Sequence[Mapping[str, Any]] = answer["tokens"]
    starts = [(start, name) for start, name in answer["blocks"]]
    ends = [start for start, _ in starts[1:]] + [len(tokens)]
    first = max(0, len(tokens) - MOST_TOKENS)
    blocks = []
    for (start, name), end in zip(starts, ends, strict=True):
        if end > first:
            shown = tuple(_token(tokens, at) for at in range(max(start, first), end))
            blocks.append(TokenBlock(name, name.rpartition(" ")[2], shown))
    return blocks


def _token(tokens: Sequence[Mapping[str, Any]], at: int) -> Mapping[str, Any]:
    weight = _weight(tokens, at)
    origin = tokens[at]["origin"]
    kind = "more" if weight > 1 else "full" if weight == 1 else "part" if weight > 0 else "read"
    return {
        "at": at,
        "id": tokens[at]["id"],
        "pieces": visible(tokens[at]["text"]),
        "origin": origin,
        "message": None if tokens[at]["message"] is None else tokens[at]["message"] + 1,
        "field": tokens[at]["field"],
        "kind": "printed" if kind == "read" and origin == "template" else kind,
        "weight": weight,
        "starts": weight > 0 and _weight(tokens, at - 1) != weight,
        "ends": weight > 0 and _weight(tokens, at + 1) != weight,
    }


def _weight(tokens: Sequence[Mapping[str, Any]], at: int) -> float:
    if not 0 <= at < len(tokens):
        return 0.0
    value = tokens[at].get("weight")
    return float(tokens[at]["origin"] == "generated") if value is None else float(value)


def visible(text: str) -> list[tuple[str, str]]:
    r"""Return a token's text as pieces, each a sign for what cannot be seen, and the text itself.

    Example:
        >>> visible("a\n"), visible("")
        ([('', 'a'), ('↵', '\n')], [('◦', '')])
    """
    if not text:
        return [("◦", "")]
    pieces: list[tuple[str, str]] = []
    for character in text:
        sign = _SIGNS.get(character, "")
        if not sign and (ord(character) < 32 or character in _UNSEEN):
            pieces.append((f"⟨{ord(character):04X}⟩", ""))
        elif not sign and pieces and not pieces[-1][0]:
            pieces[-1] = ("", pieces[-1][1] + character)
        else:
            pieces.append((sign, character))
    return pieces


_SIGNS = {"\n": "↵", "\t": "→"}
_UNSEEN = frozenset(
    "\x7f\u00a0\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
)
