"""What can be known of a pre-tokenizer's regular expression without running it.

The pattern is read as a tree, for two questions: can a match hold one character with another right behind it, and is a character always in
some match? If a match never holds *a* and *b* behind it, a text may be cut between the two: what matches on one side does not depend on the other.
Questionable on purpose: what the small grammar here does not know (anchors, look-behind, back references, nested classes) gives no answer at all;
that costs speed alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

_QUANTIFIER = re.compile(r"(?:[*+?]|\{\d+(?:,\d*)?\})[?+]?")
_GROUP = re.compile(r"\(\?(?:i?:|>)|\((?!\?)")
_NOT_BEFORE_TEXT = r"(?!\S)"
_PROPERTY = re.compile(r"\\([pP])\{(\^?)(\w+)\}")
_SCRIPTS = frozenset({"Han", "Hiragana", "Katakana", "Hangul", "Cyrillic", "Arabic", "Thai"})
_CATEGORY = re.compile("L[ultmo]?|M[nce]?|N[dlo]?|P[cdseifo]?|S[mcko]?|C[cfson]?")
_ESCAPED = re.compile(r"\\(?:x[0-9A-Fa-f]{2}|x\{[0-9A-Fa-f]+\}|u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_NAMED = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v"}

# Sets of characters are bits of a number: the 128 of ASCII, then white space beyond them, then all other characters beyond them.
_ASCII = (1 << 128) - 1
WIDE_SPACE, WIDE = 1 << 128, 1 << 129
_ANY = _ASCII | WIDE_SPACE | WIDE


def characters(text: Iterable[str]) -> int:
    """Give the set of some characters."""
    found = 0
    for each in text:
        found |= 1 << ord(each) if ord(each) < 128 else WIDE_SPACE if each.isspace() else WIDE
    return found


_SPACES = characters(" \t\n\r\f\v") | WIDE_SPACE


@dataclass(frozen=True, slots=True)
class Matches:
    """What a pattern, or a part of it, can match.

    Attributes:
        empty: Whether nothing, perhaps on a condition.
        nothing: Whether nothing, on no condition.
        first: Characters that a match can begin with.
        last: Characters that a match can end with.
        single: Characters that are a match by themselves.
        joins: Pairs of sets; a match can hold a character of the first with one of the second behind it.
    """

    empty: bool
    nothing: bool
    first: int = 0
    last: int = 0
    single: int = 0
    joins: tuple[tuple[int, int], ...] = ()

    def can_join(self, left: int, right: int) -> bool:
        """Tell whether a match may hold a character of one set with one of another right behind it."""
        return any(left & last and right & first for last, first in self.joins)

    def takes(self, some: int) -> bool:
        """Tell whether each of some characters is always in a match."""
        return not some & ~self.single

    def then(self, other: Matches) -> Matches:
        """Give what one part and another behind it can match."""
        return Matches(
            self.empty and other.empty,
            self.nothing and other.nothing,
            self.first | (other.first if self.empty else 0),
            other.last | (self.last if other.empty else 0),
            (self.single if other.nothing else 0) | (other.single if self.nothing else 0),
            (*self.joins, *other.joins, (self.last, other.first)),
        )

    def or_(self, other: Matches) -> Matches:
        """Give what one part or another can match."""
        return Matches(
            self.empty or other.empty,
            self.nothing or other.nothing,
            self.first | other.first,
            self.last | other.last,
            self.single | other.single,
            (*self.joins, *other.joins),
        )

    def repeated(self, quantifier: str) -> Matches:
        """Give what a part can match under a quantifier."""
        least = {"*": 0, "?": 0, "+": 1}.get(quantifier[0])
        if least is None:
            least = int(re.findall(r"\d+", quantifier)[0])
        joins = self.joins if quantifier[0] == "?" else (*self.joins, (self.last, self.first))
        single = self.single if least < 2 else 0
        return Matches(self.empty or not least, self.nothing or not least, self.first, self.last, single, joins)


_NOTHING = Matches(True, True)
_CONDITION = Matches(True, False, first=_ANY)  # looks at what is behind it, which a cut would take away


class _Unknown(Exception):
    """Something in a pattern that is not understood."""


def read_pattern(pattern: str) -> Matches | None:
    r"""Read a pattern in the dialect of `tokenizers`; None where it is not understood.

    Example:
        >>> found = read_pattern(r" ?\p{L}+| ?[^\s\p{L}]+|\s+(?!\S)|\s+")
        >>> found.can_join(characters("a"), characters(" ")), found.can_join(characters(" "), characters("a")), found.takes(characters("a ,"))
        (False, True, True)
        >>> read_pattern(r"\bword") is None
        True
    """
    try:
        found, end = _alternatives(pattern, 0, fold=False)
    except (_Unknown, IndexError, ValueError):
        return None
    return found if end == len(pattern) else None


def _alternatives(pattern: str, at: int, *, fold: bool) -> tuple[Matches, int]:
    found, at = _sequence(pattern, at, fold=fold)
    while at < len(pattern) and pattern[at] == "|":
        other, at = _sequence(pattern, at + 1, fold=fold)
        found = found.or_(other)
    return found, at


def _sequence(pattern: str, at: int, *, fold: bool) -> tuple[Matches, int]:
    found = _NOTHING
    while at < len(pattern) and pattern[at] not in "|)":
        part, at = _atom(pattern, at, fold=fold)
        quantifier = _QUANTIFIER.match(pattern, at)
        if quantifier:
            part, at = part.repeated(quantifier.group()), quantifier.end()
        found = found.then(part)
    return found, at


def _atom(pattern: str, at: int, *, fold: bool) -> tuple[Matches, int]:
    if pattern.startswith(_NOT_BEFORE_TEXT, at):
        return _CONDITION, at + len(_NOT_BEFORE_TEXT)
    group = _GROUP.match(pattern, at)
    if group:
        part, at = _alternatives(pattern, group.end(), fold=fold or "i" in group.group())
        if pattern[at] != ")":
            raise _Unknown
        return part, at + 1
    if pattern[at] in "(^$*+?{}.":
        raise _Unknown
    if pattern[at] == "[":
        if fold and pattern.startswith("[^", at):
            raise _Unknown  # what a negated class leaves out whatever its case
        some, at = _class(pattern, at + 1)
    else:
        some, at = _character(pattern, at)
    single = some & _ASCII
    if fold:
        some |= characters(c for n in range(128) if some >> n & 1 for c in (chr(n).lower(), chr(n).upper()))
    return Matches(False, False, some, some, single), at


def _class(pattern: str, at: int) -> tuple[int, int]:
    negated = pattern[at] == "^"
    at += negated
    found, whole, first = 0, 0, at
    while pattern[at] != "]" or at == first:
        if pattern[at] == "[" or pattern.startswith(("&&", "--", "~~"), at):
            raise _Unknown
        here = at
        some, at = _character(pattern, at)
        if pattern[at] == "-" and pattern[at + 1] != "]":
            end = at + 1
            _, at = _character(pattern, end)
            low, high = _code(pattern[here : end - 1]), _code(pattern[end:at])
            some = characters(map(chr, range(low, min(high, 127) + 1))) | (WIDE_SPACE | WIDE if high > 127 else 0)
        whole |= {r"\s": WIDE_SPACE, r"\S": WIDE}.get(pattern[here:at], 0)
        found |= some
    if negated:
        found = (_ASCII & ~found) | ((WIDE_SPACE | WIDE) & ~whole)
    return found, at + 1


def _character(pattern: str, at: int) -> tuple[int, int]:
    """Give the characters that one character or escape of a pattern stands for, and where it ends."""
    if pattern[at] != "\\":
        return characters(pattern[at]), at + 1
    named = _PROPERTY.match(pattern, at)
    if named:
        letter, caret, name = named.groups()
        found = _of_property(name)
        return _ANY & ~(found & _ASCII) if (letter == "P") != bool(caret) else found, named.end()
    escaped = _ESCAPED.match(pattern, at)
    if escaped is None:
        raise _Unknown
    kind = escaped.group()[1]
    if kind in "sSdDwW":
        return {"s": _SPACES, "S": _ANY & ~_SPACES}.get(kind) or _of_kind(kind), escaped.end()
    return characters(chr(_code(escaped.group()))), escaped.end()


def _of_kind(kind: str) -> int:
    some = [chr(n) for n in range(128) if (chr(n).isdigit() if kind in "dD" else chr(n).isalnum() or n == 95)]
    return characters(some) | WIDE if kind.islower() else (_ASCII & ~characters(some)) | WIDE_SPACE | WIDE


def _of_property(name: str) -> int:
    """Give the set of a general category or script."""
    if name in _SCRIPTS:
        return WIDE
    if _CATEGORY.fullmatch(name) is None:
        raise _Unknown
    beyond = WIDE | WIDE_SPACE if name[0] == "C" else WIDE
    return characters(chr(n) for n in range(128) if unicodedata.category(chr(n)).startswith(name)) | beyond


def _code(text: str) -> int:
    if text[0] == "\\" and text[1] in "xu":
        return int(text[2:].strip("{}"), 16)
    if text[0] == "\\":
        if text[1] in _NAMED:
            return ord(_NAMED[text[1]])
        if text[1].isalnum():
            raise _Unknown  # \b, \A, \G, a back reference …
        return ord(text[1])
    return ord(text)
