"""Look through all rows for those that a filter keeps: ``python -m instil.studio.workers.scan``.

It reads one JSON line with the filter, and prints a line for each row found and now and then how far it is, until enough
rows are found. A process of its own, so that whoever closes the page or presses stop ends it at once.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from instil.conversation import Conversation, Place
from instil.data.formats.registry import read_row
from instil.data.sources.rows import parse_row
from instil.errors import DataError, InstilError
from instil.screen import hide_work
from instil.studio.workers.reading import Rows, rows_of

NEWS_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Filter:
    """What a row must have.

    Attributes:
        text: A text in one of its values, or with a role in a message of that role; small and capital letters are one.
        role: A message of this role.
        shortest: Fewest tokens of its longest example.
        longest: Most tokens of its longest example.
    """

    text: str = ""
    role: str = ""
    shortest: int | None = None
    longest: int | None = None

    @property
    def by_length(self) -> bool:
        """Whether a length is set, which needs a tokenizer."""
        return self.shortest is not None or self.longest is not None


Length = Callable[[Sequence[Conversation]], int]


def found_in(rows: Iterator[tuple[int, Place, Any]], wanted: Filter, data: Rows, length: Length) -> Iterator[Any]:
    """Yield (position, place) of a row that is kept, and the number of rows seen now and then.

    A row that cannot be read has no role and no length, but its text is looked at.
    """
    text = wanted.text.casefold()
    in_bytes = _plain_bytes(text)
    seen, news = 0, time.monotonic() + NEWS_SECONDS
    for position, place, raw in rows:
        seen += 1
        if not seen % 256 and time.monotonic() > news:
            news = time.monotonic() + NEWS_SECONDS
            yield seen
        # Most rows of a large file are told apart here, without parsing them.
        if in_bytes and isinstance(raw, bytes) and b"\\u" not in raw and in_bytes not in _folded(raw):
            continue
        try:
            row = parse_row(raw, place)
        except DataError:
            row = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else ""
        if text and not wanted.role and text not in _text_of(row).casefold():
            continue
        if wanted.role or wanted.by_length:
            try:
                _, conversations = read_row(row, place, format_name=data.work.format, options=data.options)
            except InstilError:
                continue
            if not _has_role(conversations, wanted.role, text):
                continue
            if wanted.by_length and not _within(length(conversations), wanted):
                continue
        yield position, place


def _folded(raw: bytes) -> bytes:
    """Return a line in small letters; in some alphabets one of them is several letters of ours."""
    return raw.lower() if raw.isascii() else raw.decode("utf-8", "replace").casefold().encode()


def _plain_bytes(text: str) -> bytes:
    """Return the text as it stands in a line of JSON in small letters; empty where it may stand there in several ways."""
    return text.encode() if text.isascii() and text.isprintable() and not set(text) & {'"', "\\", "/"} else b""


def _text_of(value: Any) -> str:
    """Return all texts of a value, a line each; names of columns are not among them."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "\n".join(map(_text_of, value.values()))
    if isinstance(value, list | tuple):
        return "\n".join(map(_text_of, value))
    return "" if value is None else str(value)


def _has_role(conversations: Sequence[Conversation], role: str, text: str) -> bool:
    if not role:
        return True
    messages = [message for one in conversations for message in one.messages if message.role == role]
    return bool(messages) and (not text or any(text in _text_of(message.content).casefold() for message in messages))


def _within(length: int, wanted: Filter) -> bool:
    return (wanted.shortest or 0) <= length <= (length if wanted.longest is None else wanted.longest)


def _length_of(settings: Mapping[str, Any]) -> Length:
    """Return a function that counts the tokens of a row's longest example."""
    # Why: a search for text alone starts without a tokenizer, in a third of the time.
    from instil.inspection.inspection import Inspection
    from instil.inspection.too_long import longest_example
    from instil.recipe import Recipe

    chat = Inspection.of("", Recipe.from_mapping({"model": settings["model"]}, source="the studio")).chat

    def length(conversations: Sequence[Conversation]) -> int:
        return longest_example(chat, conversations)

    return length


def main() -> None:
    """Print what is found, as JSON lines."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    hide_work()
    question = json.loads(sys.stdin.readline())

    def say(**values: Any) -> None:
        lines.write(json.dumps(values) + "\n")
        lines.flush()

    try:
        data, wanted = rows_of(question["settings"]), Filter(**question["filter"])
        length = _length_of(question["settings"]) if wanted.by_length else lambda _: 0
        places = question.get("places")
        rows = data.start_at(question["start"]) if places is None else iter(data.at_places(places))
        say(started=True)
        rows, hits = (row for row in rows if row[0] >= question["start"]), 0
        for found in found_in(rows, wanted, data, length):
            if isinstance(found, int):
                say(seen=found)
                continue
            if hits == question["most"]:  # there is one more: the next page begins with it
                say(more=found[0])
                return
            hits += 1
            say(at=found[0], place=str(found[1]))
        say(end=True)
    except InstilError as error:
        say(error=str(error))


if __name__ == "__main__":
    main()
