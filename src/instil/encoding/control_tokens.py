"""Which control tokens a text contains, and which of them somebody typed.

An added token in a rendering is either the template's own (the template printed all of its characters) or *typed*: at
least one character comes from a message, a tool definition or a template variable. Typed ones are broken in two when
the text is tokenized, so that they become ordinary tokens with the same text.

Why: the decision is made on the rendered text. So a token is also found if two parts of a message, or a message and the
template, form it together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass

from instil.encoding.tokenization import trie_pattern
from instil.template.tracing import Rendering, Runs


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One added token in a text: half-open character range and its text."""

    start: int
    end: int
    text: str


class ControlTokens:
    """The tokenizer's control tokens, and the rule for what counts as typed.

    Example:
        >>> controls = ControlTokens(["<s>", "<think>"], control=["<s>", "<think>"], guarded=["<s>"])
        >>> text = Rendering("<s>a<s>b<think>", ((3, 7, (0, "content"), 0), (7, 15, (1, "content"), 0)))
        >>> controls.typed(text, assistant={1})
        (5,)
    """

    def __init__(self, added: Iterable[str], *, control: Iterable[str], guarded: Iterable[str]) -> None:
        """Prepare the search for a tokenizer's added tokens.

        Args:
            added: Every added token's text.
            control: Those that must not be typed by a person.
            guarded: Those that must not occur in an answer either: stop tokens and turn headers.
        """
        added = [text for text in added if text.strip()]
        self.control, self.guarded = frozenset(control), frozenset(guarded)
        self._find = re.compile(trie_pattern(added)) if added else None
        self._starts = "".join(sorted({text[0] for text in added}))
        self._may = re.compile("[" + re.escape(self._starts) + "]") if added else None

    def find(self, text: str, start: int = 0, end: int | None = None) -> Iterator[Occurrence]:
        """Yield the added tokens in ``text[start:end]``, leftmost and longest first."""
        if self._find is None:
            return
        for match in self._find.finditer(text, start, len(text) if end is None else end):
            yield Occurrence(match.start(), match.end(), match.group())

    def possible(self, text: str) -> bool:
        """Return whether an added token may begin in a text; a fast check."""
        return self._may is not None and self._may.search(text) is not None

    def typed(self, rendering: Rendering, *, assistant: Set[int]) -> tuple[int, ...]:
        """Return the positions at which a rendering must be broken so that no typed control token remains one.

        Args:
            rendering: The text and its origins.
            assistant: Indices of the assistant's messages.
        """
        runs = rendering.runs
        if not runs or self._find is None:
            return ()
        text, breaks, index = rendering.text, [], 0
        begin = 0
        while match := self._find.search(text, begin):
            start, end = match.span()
            begin = end
            while index < len(runs) and runs[index][1] <= start:
                index += 1
            owners = _owners(runs, index, start, end)
            if not owners:
                continue
            token = match.group()
            unsafe = self.control if any(owner not in assistant for owner in owners) else self.guarded
            if token in unsafe:
                breaks.append(start + 1)
                begin = start + 1  # the rest of it may contain another token
                index = 0 if index >= len(runs) else index
        return tuple(breaks)


def _owners(runs: Runs, index: int, start: int, end: int) -> set[int]:
    owners: set[int] = set()
    while index < len(runs) and runs[index][0] < end:
        if runs[index][1] > start:
            owners.add(runs[index][2][0])
        index += 1
    return owners
