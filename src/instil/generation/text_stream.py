"""Turn a stream of token ids into pieces of text that no later token can change.

A character may span several tokens, and a stop string several pieces. So text is held back until it is certain. Ids
are decoded together with a short window before them, as serving engines do: a single token of a SentencePiece
vocabulary would lose its space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

Decode: TypeAlias = Callable[[Sequence[int]], str]
_BROKEN = "\N{REPLACEMENT CHARACTER}"
_LONGEST_CHARACTER = 8
"""Tokens after which a replacement character counts as what the model wrote, not as half a character."""


class TextStream:
    """The text of one answer while it grows.

    Args:
        decode: Returns the text of ids, control tokens included.
        stop: Strings that end the answer. They and what follows them are never returned.
        before: Ids in front of the answer, in the same turn. They are decoded with it and not returned.

    Attributes:
        text: All text that was returned so far.
        stopped: Whether a stop string was found.

    Example:
        >>> stream = TextStream(lambda ids: bytes(ids).decode("utf-8", "replace"), stop=("END",))
        >>> [stream.push(byte) for byte in "ä! EN".encode()]
        ['', 'ä', '!', ' ', '', '']
        >>> stream.push(ord("D")), stream.stopped, stream.text
        ('', True, 'ä! ')
    """

    def __init__(self, decode: Decode, *, stop: Sequence[str] = (), before: Sequence[int] = ()) -> None:
        self.text = ""
        self.stopped = False
        self._decode = decode
        self._stop = tuple(stop)
        self._held = ""
        self._ids = list(before)
        self._window_start = 0
        self._read = len(self._ids)

    def push(self, token_id: int) -> str:
        """Add the next token; return the text that is now certain, or an empty string."""
        self._ids.append(token_id)
        return self._release(self._held + self._fresh(final=False), final=False)

    def finish(self) -> str:
        """Return what was held back. The answer is complete."""
        return self._release(self._held + self._fresh(final=True), final=True)

    def _fresh(self, *, final: bool) -> str:
        """Decode what is new since the last complete character."""
        if self._read == len(self._ids):
            return ""
        before = self._decode(self._ids[self._window_start : self._read])
        now = self._decode(self._ids[self._window_start :])
        incomplete = now.endswith(_BROKEN) and len(self._ids) - self._read < _LONGEST_CHARACTER
        if (incomplete and not final) or len(now) < len(before):
            return ""
        self._window_start, self._read = self._read, len(self._ids)
        return now[len(before) :]

    def _release(self, text: str, *, final: bool) -> str:
        """Return the certain part of a text, and hold back the end that may become a stop string."""
        if self.stopped:
            return ""
        stops = [at for at in (text.find(string) for string in self._stop) if at >= 0]
        if stops:
            self.stopped = True
            out, self._held = text[: min(stops)], ""
        else:
            keep = 0 if final else max((_overlap(text, string) for string in self._stop), default=0)
            out, self._held = text[: len(text) - keep], text[len(text) - keep :]
        self.text += out
        return out


def _overlap(text: str, string: str) -> int:
    """Return the length of the longest end of `text` that begins `string`.

    Example:
        >>> _overlap("abc EN", "END"), _overlap("abc", "END")
        (2, 0)
    """
    for length in range(min(len(text), len(string) - 1), 0, -1):
        if string.startswith(text[-length:]):
            return length
    return 0
