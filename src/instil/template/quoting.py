"""Origins inside quoted strings: in JSON text, and in the text that Python prints for mappings and lists.

Both put strings in quotation marks and escape some characters. Neither has quotation marks between two strings, so each
string can be found in the finished text.

Why: some published templates print a call's arguments as Python does (``{'city': 'Hanoi'}``). Serving sends this text
to the model, so it is rendered and located too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from instil.template.traced_text import runs_of, traced
from instil.template.tracing import Run, Runs, mapped, merged, shifted

_QUOTE = re.compile("[\"']")


def with_strings_located(text: str, strings: Sequence[str], write: Callable[[str], str]) -> str:
    """Return `text` with the origins of the strings quoted in it.

    Args:
        text: JSON, or the `repr` of a mapping or list.
        strings: Every string in it, keys included, in order.
        write: Quotes one string in the same way as the text.

    Returns:
        The traced text; `text` itself if a string is not found where it is expected.
    """
    if not any(runs_of(string) for string in strings):
        return text
    runs: list[Run] = []
    position = 0
    for string in strings:
        written = write(string)
        quote = _QUOTE.search(text, position)
        if quote is None or not text.startswith(written, quote.start()):
            return text
        runs.extend(shifted(_inside_quotes(string, written, write), quote.start() + 1))
        position = quote.start() + len(written)
    return traced(text, merged(runs))


def _inside_quotes(string: str, written: str, write: Callable[[str], str]) -> Runs:
    runs = runs_of(string)
    if not runs or len(written) == len(string) + 2:
        return runs

    def inside(character: str) -> str:
        if character in "'\"":  # Python escapes only the quotation mark that delimits the string
            return character if character != written[0] else "\\" + character
        return write(character)[1:-1]

    fits = "".join(inside(character) for character in str.__iter__(string)) == written[1:-1]
    return mapped(string, runs, inside) if fits else ()


class TracedDict(dict[Any, Any]):
    """A dictionary that prints itself with origins."""

    __slots__ = ()

    def __repr__(self) -> str:
        strings: list[str] = []
        _collect(self, strings)
        return with_strings_located(_plain_repr(self), strings, str.__repr__)

    __str__ = __repr__


class TracedList(list[Any]):
    """A list that prints itself with origins."""

    __slots__ = ()

    def __repr__(self) -> str:
        strings: list[str] = []
        _collect(self, strings)
        return with_strings_located(_plain_repr(self), strings, str.__repr__)

    __str__ = __repr__


def _collect(value: Any, into: list[str]) -> None:
    if isinstance(value, str):
        into.append(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            _collect(key, into)
            _collect(item, into)
    elif isinstance(value, list | tuple):
        for item in value:
            _collect(item, into)


def _plain_repr(value: Any) -> str:
    return repr(plain(value))


def plain(value: Any) -> Any:
    """Return a copy of a JSON-like value in plain dictionaries and lists."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return tuple(plain(item) for item in value) if isinstance(value, tuple) else value
