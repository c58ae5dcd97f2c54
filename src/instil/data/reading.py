"""`read`: conversations out of anything; `detect`: what a source was seen to be, and why.

Detection looks at a sample of every file for what it says, and at every row for what it does: a row of another format
is read as what it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from instil.conversation import EMPTY, Conversation, Place
from instil.data.formats.pattern import check_columns
from instil.data.formats.preference import PROMPTS
from instil.data.formats.registry import format_named, read_row, recognise
from instil.data.formats.row_format import ReadOptions, RowFormat
from instil.data.message_parts import kind_of
from instil.data.sources.files import find_files
from instil.data.sources.rows import is_hub_id, parse_row, read_file, read_raw_rows
from instil.errors import DataError

SAMPLE_ROWS = 100
_KEPT: Mapping[str, tuple[str, ...]] = {"alpaca": ("input",), "preference": ("rejected", *PROMPTS)}
"""Columns that stay columns although a format reads them."""


@dataclass(frozen=True, slots=True)
class Detection:
    """What a file was seen to be.

    Attributes:
        source: The file.
        format: Format of most of the rows looked at, or ``unknown``.
        evidence: Why, for people.
        formats: Rows looked at, by format; rows of no format count as ``unknown``, broken ones as ``broken``.
    """

    source: str
    format: str
    evidence: str
    formats: Mapping[str, int]

    def __str__(self) -> str:
        return f"{self.source}: {self.format} ({self.evidence})"


def read(
    path: str | Path,
    format: str = "auto",
    *,
    columns: Mapping[str, str] = EMPTY,
    prompt_completion: Literal["chat", "plain"] = "chat",
    on_bad_row: Literal["stop", "skip"] = "stop",
    split: str = "train",
    subset: str | None = None,
    revision: str | None = None,
    on_error: Callable[[DataError], object] | None = None,
) -> Iterator[Conversation]:
    """Read conversations, one at a time, in the order of the data.

    Args:
        path: File, folder, glob, ``-`` for standard input, or Hub id.
        format: One of the formats, or ``auto``: each row is read as what it is.
        columns: For ``pattern``: role to text with ``{column}`` in it.
        prompt_completion: Whether text of prompt/completion rows is a chat exchange or plain continuation.
        on_bad_row: ``stop`` raises at the first row that cannot be read; ``skip`` goes on with the next.
        split: Split of a Hub data set.
        subset: Configuration of a Hub data set.
        revision: Revision of a Hub data set.
        on_error: With ``skip``, called with the error of each row that is left out.

    Raises:
        DataError: If nothing is there, or, with ``stop``, a row cannot be read.

    Example:
        >>> import json, tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        ...     _ = file.write(json.dumps({"question": "2+2?", "answer": "4"}))
        ...     file.flush()
        ...     [message.content for message in next(read(file.name)).messages]
        ['2+2?', '4']
    """
    if format != "auto":
        format_named(format)
    if columns or format == "pattern":
        check_columns(columns)
    options = ReadOptions(columns, prompt_completion)
    for place, raw in read_raw_rows(str(path), split=split, subset=subset, revision=revision):
        try:
            _, conversations = read_row(parse_row(raw, place), place, format_name=format, options=options)
        except DataError as error:
            if on_bad_row == "stop":
                raise
            if on_error is not None:
                on_error(error)
            continue
        yield from conversations


def detect(path: str | Path, *, split: str = "train", sample: int = SAMPLE_ROWS, **hub: Any) -> list[Detection]:
    """Look at the first rows of every file that a path means, and say what they are and why.

    Raises:
        DataError: If nothing is there, or a file is broken as a whole within the sample.
    """
    given = str(path)
    if given == "-" or is_hub_id(given):
        return [_judge(given, islice(read_raw_rows(given, split=split, **hub), sample))]
    return [_judge(str(file), islice(read_file(file), sample)) for file in find_files(given, split=split)]


def _judge(source: str, rows: Iterator[tuple[Place, Any]]) -> Detection:
    counts: Counter[str] = Counter()
    reasons: Counter[tuple[str, str]] = Counter()
    unread: dict[str, None] = {}
    for place, raw in rows:
        try:
            row = parse_row(raw, place)
        except DataError:
            counts["broken"] += 1
            continue
        found = recognise(row)
        name = found[0].name if found else "unknown"
        counts[name] += 1
        reasons[name, found[1] if found else _shape(row)] += 1
        unread |= dict.fromkeys(_unread(found[0], row, place) if found else ())
    total = sum(counts.values())
    best = max(counts, key=lambda name: (name not in ("broken", "unknown"), counts[name]), default="unknown")
    why = [f"{reason} in {count} of {total} rows" for (name, reason), count in reasons.most_common() if name == best][
        :3
    ]
    others = [f"{count} {name}" for name, count in counts.most_common() if name != best]
    if unread:
        others.append(f"columns that nothing reads: {', '.join(islice(unread, 8))}{' …' if len(unread) > 8 else ''}")
    return Detection(source, best, "; ".join(why + others) or "no row could be read", dict(counts))


def _unread(found: RowFormat, row: Any, place: Place) -> list[str]:
    """Give the columns of a row that the model never sees: kept, but in no message."""
    try:
        conversations = found.read(row, place, ReadOptions())
    except DataError:
        return []
    return [key for key in (conversations[0].extra if conversations else ()) if key not in _KEPT.get(found.name, ())]


def _shape(row: Any) -> str:
    return f"columns {', '.join(map(str, row))}" if isinstance(row, Mapping) else kind_of(row)
