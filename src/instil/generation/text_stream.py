"""Token ids in, safe pieces of text out.

A character may be spread over several tokens and a stop string over several pieces, so text is held back until no later
token can change it. Ids are decoded from a short window before the new one, as serving engines do it, because decoding a
token by itself loses spaces in SentencePiece vocabularies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

Decode: TypeAlias = Callable[[Sequence[int]], str]
_BROKEN = "\N{REPLACEMENT CHARACTER}"
_LONGEST_CHARACTER = 8
"""Tokens after which a replacement character is taken for what the model wrote, not for half a character."""


class TextStream:
    """Text of one answer as it grows.

    Args:
        decode: Gives the text of ids; control tokens included.
        stop: Strings that end the answer; they and what follows them never come out.

    Attributes:
        text: All text that came out so far.
        stopped: Whether a stop string was found.

    Example:
        >>> stream = TextStream(lambda ids: bytes(ids).decode("utf-8", "replace"), stop=("END",))
        >>> [stream.push(byte) for byte in "ä! EN".encode()]
        ['', 'ä', '!', ' ', '', '']
        >>> stream.push(ord("D")), stream.stopped, stream.text
        ('', True, 'ä! ')
    """

    def __init__(self, decode: Decode, *, stop: Sequence[str] = ()) -> None:
        self.text = ""
        self.stopped = False
        self._decode = decode
        self._stop = tuple(stop)
        self._held = ""
        self._ids: list[int] = []
        self._window_start = 0
        self._read = 0

    def push(self, token_id: int) -> str:
        """Take the next token and give the text that is now certain; empty while nothing is."""
        self._ids.append(token_id)
        return self._give(self._held + self._fresh(final=False), final=False)

    def finish(self) -> str:
        """Give what was held back. The answer is over."""
        return self._give(self._held + self._fresh(final=True), final=True)

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

    def _give(self, text: str, *, final: bool) -> str:
        if self.stopped:
            return ""
        found = [at for at in (text.find(string) for string in self._stop) if at >= 0]
        if found:
            self.stopped = True
            out, self._held = text[: min(found)], ""
        else:
            keep = 0 if final else max((_overlap(text, string) for string in self._stop), default=0)
            out, self._held = text[: len(text) - keep], text[len(text) - keep :]
        self.text += out
        return out


def _overlap(text: str, string: str) -> int:
    """Give the length of the longest end of `text` that begins `string`.

    Example:
        >>> _overlap("abc EN", "END"), _overlap("abc", "END")
        (2, 0)
    """
    for length in range(min(len(text), len(string) - 1), 0, -1):
        if string.startswith(text[-length:]):
            return length
    return 0
