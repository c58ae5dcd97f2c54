r"""Where rendered text comes from: runs of characters, each with its origin.

A *run* ``(start, end, source, offset)`` means: the characters ``start:end`` of a text are the characters of the field
``source = (message, field)`` that start at ``offset``. The template printed whatever no run covers. Runs are sorted and
do not overlap. They do not contain the text, so every string operation is simple arithmetic on them (`cut`, `joined`,
`mapped`).

An operation may write a character differently (``\n`` in JSON, an upper-case letter). The new characters keep the
origin of the original one, and each of them has its own run.

Why: runs are plain tuples, because encoding a data set creates millions of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

Source: TypeAlias = tuple[int, str]
Run: TypeAlias = tuple[int, int, Source, int]
Runs: TypeAlias = tuple[Run, ...]
NOT_A_MESSAGE = -1
"""The message index of what belongs to no message: tools, documents and other template variables."""


class Origin(NamedTuple):
    """The field that rendered characters come from.

    Attributes:
        message: Index of the message, or -1 for tools and template variables.
        field: ``content``, ``content.0.text``, ``reasoning``, ``tool_calls.0.name``, ``tool_calls.0.arguments.city``
            (a value; its key is ``tool_calls.0.arguments.city.key``), ``tools.0.function.description``,
            ``variables.documents.0.text`` …
        start: Offset of the first character in that field's own string.
    """

    message: int
    field: str
    start: int


class Rendering:
    """The text of a conversation with the origin of every character.

    Attributes:
        text: The text that the template printed.
        runs: The ranges with an origin, as sorted `Run` tuples. This is the fast view, which the encoder reads.

    Example:
        >>> rendering = Rendering("<user>hi", ((6, 8, (0, "content"), 0),))
        >>> rendering.segments
        ((0, 6, None), (6, 8, Origin(message=0, field='content', start=0)))
        >>> rendering.spans(0)
        [(6, 8)]
    """

    __slots__ = ("_segments", "runs", "text")

    def __init__(self, text: str, runs: Runs = ()) -> None:
        self.text = text
        self.runs = runs
        self._segments: tuple[tuple[int, int, Origin | None], ...] | None = None

    @property
    def segments(self) -> tuple[tuple[int, int, Origin | None], ...]:
        """Half-open ranges that cover the text, each with its origin; None for text of the template itself."""
        if self._segments is None:
            segments: list[tuple[int, int, Origin | None]] = []
            end = 0
            for start, stop, source, offset in merged(self.runs):
                if start > end:
                    segments.append((end, start, None))
                segments.append((start, stop, Origin(source[0], source[1], offset)))
                end = stop
            if end < len(self.text):
                segments.append((end, len(self.text), None))
            self._segments = tuple(segments)
        return self._segments

    def spans(self, message: int, field: str | None = None) -> list[tuple[int, int]]:
        """Return the half-open ranges that come from a message; adjacent ranges are merged.

        Args:
            message: Index of the message; -1 for tools and template variables.
            field: Only this field and the fields in it (``content`` includes ``content.0.text``). None: all fields.
        """
        inside = None if field is None else field + "."
        spans: list[tuple[int, int]] = []
        for start, end, (owner, name), _ in self.runs:
            if owner != message or (inside is not None and name != field and not name.startswith(inside)):
                continue
            if spans and spans[-1][1] == start:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))
        return spans

    def __repr__(self) -> str:
        return f"Rendering({self.text!r}, {self.runs!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rendering) and (self.text, self.segments) == (other.text, other.segments)

    def __hash__(self) -> int:
        return hash(self.text)


def cut(runs: Runs, start: int, end: int) -> Runs:
    """Return the runs of ``text[start:end]``, counted from `start`.

    Example:
        >>> cut(((0, 4, (0, "content"), 0),), 1, 3)
        ((0, 2, (0, 'content'), 1),)
    """
    if len(runs) == 1:  # by far the most common: a string that is one complete field
        a, b, source, offset = runs[0]
        first, last = max(a, start), min(b, end)
        return ((first - start, last - start, source, offset + first - a),) if first < last else ()
    kept: list[Run] = []
    for a, b, source, offset in runs:
        first, last = max(a, start), min(b, end)
        if first < last:
            kept.append((first - start, last - start, source, offset + first - a))
    return tuple(kept)


def shifted(runs: Runs, by: int) -> Iterable[Run]:
    """Return the runs moved `by` characters to the right."""
    return [(a + by, b + by, source, offset) for a, b, source, offset in runs] if by else runs


def picked(runs: Runs, indices: Sequence[int]) -> Runs:
    """Return the runs of the text that consists of the characters at `indices`; -1 is a character without origin."""
    origin: dict[int, tuple[Source, int]] = {}
    for a, b, source, offset in runs:
        for index in range(a, b):
            origin[index] = (source, offset + index - a)
    out: list[Run] = []
    for position, index in enumerate(indices):
        if index in origin:
            source, offset = origin[index]
            out.append((position, position + 1, source, offset))
    return merged(out)


def mapped(text: str, runs: Runs, write: Callable[[str], str]) -> Runs:
    """Return the runs of a text in which every character is replaced by ``write(character)``."""
    indices: list[int] = []
    for index, character in enumerate(text):
        indices.extend([index] * len(write(character)))
    return picked(runs, indices)


def merged(runs: Iterable[Run]) -> Runs:
    """Join runs that are adjacent both in the text and in their source."""
    out: list[Run] = []
    for run in runs:
        if out:
            a, b, source, offset = out[-1]
            if b == run[0] and source == run[2] and offset + b - a == run[3]:
                out[-1] = (a, run[1], source, offset)
                continue
        out.append(run)
    return tuple(out)
