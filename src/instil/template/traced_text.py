"""Strings that know where their characters came from.

A template receives a `TracedStr` in place of a message's text. It is a `str` in every respect (equality, hash, `in`,
`int()`, `is string`, `len` …), and its operations return traced strings. `TracedMarkup` is the same for the results of
jinja2's ``safe`` and ``escape``, which escape whatever is added to them. If an operation cannot determine the origins,
its text is still `str`'s own, and only the origins are lost.

Why: results in which no character has an origin are plain `str`, so that tracing costs nothing for the template's text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, SupportsIndex, cast

from markupsafe import Markup, escape

from instil.template.tracing import Run, Runs, cut, mapped, picked, shifted

_new = str.__new__


def runs_of(text: object) -> Runs:
    """Return the runs of a traced string, and none for anything else."""
    return text.instil_runs if text.__class__ in _TRACED else ()


def traced(text: str, runs: Runs) -> str:
    """Return the text with its runs, as a plain `str` if there are none."""
    if not runs:
        return text
    made = _new(TracedStr, text)
    made.instil_runs = runs
    return made


def joined(pieces: Iterable[str]) -> str:
    """Concatenate strings, like ``"".join``, and keep their origins."""
    pieces = pieces if isinstance(pieces, list) else list(pieces)
    runs: list[Run] = []
    position = 0
    for piece in pieces:
        if piece.__class__ in _TRACED:
            runs.extend(shifted(piece.instil_runs, position))
        position += len(piece)
    text = "".join(pieces)
    return traced(text, tuple(runs)) if runs else text


class _Traced(str):
    """The base of both kinds of traced strings: `str` computes the text, and arithmetic on runs the origins."""

    __slots__ = ()
    instil_runs: Runs

    def _made(self, text: str, runs: Runs) -> str:
        """Return a result of the same kind as this string."""
        return traced(text, runs)

    def _taken(self, other: Any) -> str:
        """Return the form in which another string is combined with this one."""
        return cast(str, other)

    def _cut(self, start: int, end: int) -> str:
        if start == 0 and end == len(self):
            return self
        return self._made(str.__getitem__(self, slice(start, end)), cut(self.instil_runs, start, end))

    def _laid(self, pieces: list[str]) -> str:
        laid = joined(pieces)
        return self._made(laid, runs_of(laid)) if isinstance(laid, TracedStr) else self._made(laid, ())

    def _chopped(self, pieces: list[str], gap: int = 0) -> list[str]:
        """Return pieces that follow each other in this string, `gap` characters apart, with their origins."""
        out, position = [], 0
        for piece in pieces:
            out.append(self._cut(position, position + len(piece)))
            position += len(piece) + gap
        return out

    def _found(self, pieces: list[str]) -> list[str]:
        """Return pieces that follow each other in this string, separated by white space, with their origins."""
        out, position = [], 0
        for piece in pieces:
            position = str.find(self, piece, position)
            out.append(self._cut(position, position + len(piece)))
            position += len(piece)
        return out

    def _cased(self, change: Callable[[str], str]) -> str:
        text = change(self)
        if len(text) == len(self):
            return self._made(text, self.instil_runs)
        by_character = "".join(change(character) for character in str.__iter__(self))
        return self._made(text, mapped(self, self.instil_runs, change) if by_character == text else ())

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        if not isinstance(key, slice):
            text = str.__getitem__(self, key)
            at = key.__index__()
            at = at + len(self) if at < 0 else at
            return self._made(text, cut(self.instil_runs, at, at + 1))
        start, stop, step = key.indices(len(self))
        if step == 1:
            return self._cut(start, max(start, stop))
        text = str.__getitem__(self, key)
        return self._made(text, picked(self.instil_runs, range(start, stop, step)))

    def __iter__(self) -> Iterator[str]:
        for index, character in enumerate(str.__iter__(self)):
            yield traced(character, cut(self.instil_runs, index, index + 1))

    def strip(self, chars: str | None = None, /) -> str:
        left = str.lstrip(self, chars)
        start = len(self) - len(left)
        return self._cut(start, start + len(str.rstrip(left, chars)))

    def lstrip(self, chars: str | None = None, /) -> str:
        return self._cut(len(self) - len(str.lstrip(self, chars)), len(self))

    def rstrip(self, chars: str | None = None, /) -> str:
        return self._cut(0, len(str.rstrip(self, chars)))

    def removeprefix(self, prefix: str, /) -> str:
        return self._cut(len(self) - len(str.removeprefix(self, prefix)), len(self))

    def removesuffix(self, suffix: str, /) -> str:
        return self._cut(0, len(str.removesuffix(self, suffix)))

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        pieces = str.split(self, sep, maxsplit)
        return self._found(pieces) if sep is None else self._chopped(pieces, len(sep))

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        pieces = str.rsplit(self, sep, maxsplit)
        return self._found(pieces) if sep is None else self._chopped(pieces, len(sep))

    def splitlines(self, keepends: bool = False) -> list[str]:
        out, position = [], 0
        for line, kept in zip(str.splitlines(self), str.splitlines(self, True), strict=True):
            out.append(self._cut(position, position + len(kept if keepends else line)))
            position += len(kept)
        return out

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        before, middle, after = self._chopped(list(str.partition(self, sep)))
        return before, middle, after

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        before, middle, after = self._chopped(list(str.rpartition(self, sep)))
        return before, middle, after

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:
        new = self._taken(new)
        text = str.replace(self, old, new, count)
        pieces: list[str] = []
        left, position = count.__index__(), 0
        if not old:
            return self._made(text, ()) if left else self
        while left != 0 and (at := str.find(self, old, position)) >= 0:
            pieces += [self._cut(position, at), new]
            position = at + len(old)
            left -= 1
        return self._laid([*pieces, self._cut(position, len(self))]) if pieces else self

    def __add__(self, other: str, /) -> str:
        if other.__class__ is str and self.__class__ is TracedStr:  # the usual case: the runs stay as they are
            return traced(str.__add__(self, other), self.instil_runs)
        if not isinstance(other, str):
            return NotImplemented
        if isinstance(other, Markup) and not isinstance(self, Markup):
            return cast(str, as_markup(other).__radd__(self))
        return self._laid([self, self._taken(other)])

    def __radd__(self, other: str, /) -> str:
        if other.__class__ is str and self.__class__ is TracedStr:
            return traced(str.__add__(other, self), tuple(shifted(self.instil_runs, len(other))))
        if not isinstance(other, str):
            return NotImplemented
        return self._laid([self._taken(other), self])

    def __mul__(self, times: SupportsIndex, /) -> str:
        if not hasattr(times, "__index__"):
            return NotImplemented
        return self._laid([self] * times.__index__())

    __rmul__ = __mul__

    def join(self, items: Iterable[str], /) -> str:
        items = list(items)
        text = str.join(self, items)  # raises as str does
        if not items:
            return self._made(text, ())
        pieces = [self._taken(items[0])]
        for item in items[1:]:
            pieces += [self, self._taken(item)]
        return self._laid(pieces)

    def center(self, width: SupportsIndex, fillchar: str = " ", /) -> str:
        return self._padded(str.center(self, width, fillchar), (max(width.__index__() - len(self), 0)))

    def ljust(self, width: SupportsIndex, fillchar: str = " ", /) -> str:
        text = str.ljust(self, width, self._taken(fillchar))
        return self._made(text, self.instil_runs)

    def rjust(self, width: SupportsIndex, fillchar: str = " ", /) -> str:
        text = str.rjust(self, width, self._taken(fillchar))
        return self._made(text, tuple(shifted(self.instil_runs, len(text) - len(self))))

    def _padded(self, text: str, margin: int) -> str:
        left = margin // 2 + (margin & len(text) & 1)  # CPython's rule for an odd margin
        return self._made(text, tuple(shifted(self.instil_runs, left)))

    def upper(self) -> str:
        return self._cased(str.upper)

    def lower(self) -> str:
        return self._cased(str.lower)

    def swapcase(self) -> str:
        return self._cased(str.swapcase)

    def casefold(self) -> str:
        return self._cased(str.casefold)

    def title(self) -> str:
        return self._cased(str.title)

    def capitalize(self) -> str:
        return self._cased(str.capitalize)

    def __mod__(self, values: Any, /) -> str:
        return percent(self, values)

    def __rmod__(self, template: str, /) -> str:
        return percent(template, self)


class TracedStr(_Traced):
    """A string with the origins of its characters.

    Example:
        >>> text = TracedStr("  a,b ", ((0, 6, (0, "content"), 0),))
        >>> [(part, part.instil_runs[0][3]) for part in text.strip().split(",")]
        [('a', 2), ('b', 4)]
    """

    __slots__ = ("instil_runs",)

    def __new__(cls, text: object = "", runs: Runs = ()) -> TracedStr:
        """Create one; `text` may be anything that `str` accepts."""
        made = _new(cls, text)
        made.instil_runs = runs or runs_of(text)
        return made

    def __str__(self) -> str:
        return self


class TracedMarkup(_Traced, Markup):  # type: ignore[misc]  # results are built by _made, not by Markup
    """Markup (text that must not be escaped again) with the origins of its characters."""

    __slots__ = ("instil_runs",)

    def _made(self, text: str, runs: Runs) -> str:
        return cast(str, _markup(text, runs))

    def _taken(self, other: Any) -> str:
        return cast(str, escaped(other))

    def __str__(self) -> str:
        return traced(_new(str, str.__str__(self)), self.instil_runs)

    def __repr__(self) -> str:
        return f"Markup({str.__repr__(self)})"

    @classmethod
    def escape(cls, text: Any, /) -> Any:
        """Escape for HTML and keep origins."""
        return escaped(text)

    def __mod__(self, values: Any, /) -> Any:
        return Markup(str.__str__(self)) % values

    def __rmod__(self, template: str, /) -> str:
        return percent(template, self)


def as_markup(text: Any) -> Any:
    """Return Markup with the text's origins, as jinja2's ``safe`` does; nothing is escaped."""
    if isinstance(text, TracedStr | TracedMarkup):
        return _markup(text, text.instil_runs)
    return text if isinstance(text, Markup) else Markup(text)


def _markup(text: str, runs: Runs) -> Any:
    made = _new(TracedMarkup, text)
    made.instil_runs = runs
    return made


def escaped(text: Any) -> Any:
    """Escape ``& < > ' "`` for HTML as markupsafe does. An entity has the origin of its character."""
    if not isinstance(text, TracedStr):
        return text if isinstance(text, TracedMarkup) else escape(text)
    written = str.__str__(escape(text))
    return _markup(written, mapped(text, text.instil_runs, lambda character: str.__str__(escape(character))))


_SPECIFIER = re.compile(r"%(?:\((\w+)\))?([#0\- +]*(?:\*|\d+)?(?:\.(?:\*|\d+))?[hlL]?[diouxXeEfFgGcrsa]|%)")


def percent(template: str, values: Any) -> str:
    """Format with ``%`` as `str` does. Plain ``%s`` and ``%(name)s`` keep the origins of what they print.

    Example:
        >>> runs_of(percent("<%s>", TracedStr("hi", ((0, 2, (0, "content"), 0),))))
        ((1, 3, (0, 'content'), 0),)
    """
    plain = str.__str__(template) if isinstance(template, Markup) else template
    text = str.__mod__(plain, values)
    pieces: list[str] = []
    position, following = 0, iter(values if isinstance(values, tuple) else (values,))
    for match in _SPECIFIER.finditer(plain):
        name, kind = match.groups()
        pieces.append(plain[position : match.start()])
        position = match.end()
        if kind == "%":
            pieces.append("%")
        elif kind == "s":
            value = values[name] if name is not None else next(following, None)
            pieces.append(str(value))
        else:
            return text
    pieces.append(plain[position:])
    made = joined(pieces)
    return made if made == text else text


_TRACED = frozenset({TracedStr, TracedMarkup})
