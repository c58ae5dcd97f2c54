"""Show an answer while it is generated, without its reasoning and tool-call syntax."""

from __future__ import annotations

from collections.abc import Sequence

from instil.encoding.turns.inline_reasoning import OPENING_TAGS
from instil.generation.parsing import closing_tag

_CALL_MARKERS = ("<tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "<｜tool▁calls▁begin｜>")
_CHANNEL, _FINAL = "<|channel|>", "<|channel|>final<|message|>"


class Folding:
    r"""A filter that takes pieces of an answer and returns what a person should see of them.

    Args:
        in_reasoning: Whether the prompt opened a reasoning block.
        fold_calls: Whether tool-call syntax is removed too.

    Attributes:
        thinking: Whether the text so far ends inside reasoning.

    Example:
        >>> folding = Folding()
        >>> [folding.push(piece) for piece in ("<thi", "nk>hm", "</think>\n\nFo", "ur")]
        ['', '', 'Fo', 'ur']
        >>> folding.finish()
        ''
    """

    def __init__(self, *, in_reasoning: bool = False, fold_calls: bool = True) -> None:
        self.thinking = in_reasoning
        self._text = ""
        self._shown = 0
        self._starts_in_reasoning = in_reasoning
        self._markers = _CALL_MARKERS if fold_calls else ()

    def push(self, piece: str) -> str:
        """Add a piece; return the visible text that is new."""
        self._text += piece
        return self._new(final=False)

    def finish(self) -> str:
        """Return what was held back. The answer is complete."""
        return self._new(final=True)

    def _new(self, *, final: bool) -> str:
        visible = self._visible(final=final)
        fresh = visible[self._shown :]
        self._shown += len(fresh)
        return fresh

    def _visible(self, *, final: bool) -> str:
        text = self._text
        # gpt-oss: only the final channel is for people.
        if text.startswith(_CHANNEL):
            self.thinking = _FINAL not in text
            return text.partition(_FINAL)[2].partition("<|")[0]
        if not final and _CHANNEL.startswith(text):
            return ""
        text = self._without_reasoning(text, final=final)
        ends = [text.index(marker) for marker in self._markers if marker in text]
        if ends:
            return text[: min(ends)].rstrip()
        return text if final else text[: len(text) - _undecided(text, self._markers)]

    def _without_reasoning(self, text: str, *, final: bool) -> str:
        closing = closing_tag(text, in_reasoning=self._starts_in_reasoning)
        if closing is None:
            self.thinking = False
            may_become_tag = any(tag.startswith(text.lstrip()) for tag in OPENING_TAGS)
            return "" if may_become_tag and not final else text
        _, closed, after = text.partition(closing)
        self.thinking = not closed
        return after.lstrip("\n")


def _undecided(text: str, markers: Sequence[str]) -> int:
    """Return how many characters at the end of a text may become a marker of tool calls."""
    longest = 0
    for marker in markers:
        for length in range(1, len(marker)):
            if text.endswith(marker[:length]):
                longest = max(longest, length)
    return longest
