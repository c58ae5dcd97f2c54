r"""Make text visible: white space and control characters as signs.

Data can contain escape sequences and direction overrides. Printed as they are, they would recolour, move or reorder the
text. `plain` keeps spaces; `visible` shows them as dots.
"""

from __future__ import annotations

import unicodedata

SPACE, TAB, NEWLINE, RETURN, NO_BREAK = "·", "→", "↵", "␍", "⍽"
_SIGNS = {" ": SPACE, "\t": TAB, "\n": NEWLINE, "\r": RETURN, "\u00a0": NO_BREAK}


def visible(text: str) -> str:
    r"""Return the text on one line with every character visible.

    Example:
        >>> visible("a b\n\tc\x1b[0m")
        'a·b↵→c␛[0m'
    """
    return "".join(_SIGNS.get(character) or _shown(character) for character in text)


def plain(text: str) -> str:
    r"""Return the text on one line, safe to print, with its spaces.

    Example:
        >>> plain("a b\nc\x07")
        'a b↵c␇'
    """
    return "".join(" " if character == " " else _SIGNS.get(character) or _shown(character) for character in text)


def shortened(text: str, length: int) -> str:
    """Return the text on one line, cut in the middle if it is longer than `length`.

    Example:
        >>> shortened("abcdefghij", 7)
        'abc…hij'
    """
    text = plain(text)
    if len(text) <= length:
        return text
    half = (length - 1) // 2
    return f"{text[: length - 1 - half]}…{text[len(text) - half :]}"


def _shown(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if code >= 0x80 and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS:
        return f"⟨{code:04X}⟩"
    return character


_JOINERS = "\u200c\u200d"
"""Zero-width joiners are part of emoji and of several scripts. Without them the text would look different."""
