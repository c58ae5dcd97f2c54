"""Read conversations from any source (`read`), or report the format of a source (`detect`).

The first step of the flow: `sources` yields the rows, `formats` reads each of them.

Why: `detect` reports from a sample of rows, but `read` recognises the format of every row anew. A file that mixes
formats is therefore read correctly.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, Literal

from instil.conversation import EMPTY, ROWS, Conversation, Place
from instil.conversation.message_parts import kind_of
from instil.data.formats.pattern import check_columns
from instil.data.formats.preferences.chosen_rejected import PROMPTS
from instil.data.formats.registry import format_named, other_names, read_row, recognise
from instil.data.formats.row_format import ReadOptions
from instil.data.memory_rows import is_path, json_row, rows_of, sources_in
from instil.data.side_columns import is_empty
from instil.data.sides import Group, checked_group, follow_each_other, reading_for, with_other_side
from instil.data.sources.files import find_files
from instil.data.sources.rows import (
    AS_THE_FILE_SAYS,
    FileOptions,
    is_hub_id,
    parse_row,
    read_file,
    read_raw_rows,
    seen_in,
)
from instil.data.sources.stored import SourceFile
from instil.errors import DataError
from instil.recipe import Objective, Reading, delimiter_named
from instil.remote.ranged_files import RemoteFile

SAMPLE_ROWS = 100
"""Number of rows of each file that `detect` looks at."""
_SHOWN_COLUMNS = 8
_SHOWN_REASONS = 3
_KEPT: Mapping[str, tuple[str, ...]] = {"alpaca": ("input",), "preference": ("rejected", *PROMPTS)}
"""Columns that a format reads and also keeps as columns."""


@dataclass(frozen=True, slots=True)
class Detection:
    """The detected format of a file.

    Attributes:
        source: The file.
        format: Format of most of the sampled rows, or ``unknown``.
        evidence: Why, in words for the user.
        formats: Number of sampled rows by format. Rows in no known format count as ``unknown``, broken rows as
            ``broken``.
    """

    source: str
    format: str
    evidence: str
    formats: Mapping[str, int]

    def __str__(self) -> str:
        return f"{self.source}: {self.format} ({self.evidence})"


def read(
    path: Any,
    format: str = "auto",
    *,
    columns: Mapping[str, str] = EMPTY,
    prompt_completion: Literal["chat", "plain"] = "chat",
    on_bad_row: Literal["stop", "skip"] = "stop",
    split: str = "train",
    subset: str | None = None,
    revision: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    sheet: str | None = None,
    on_error: Callable[[DataError], object] | None = None,
    objective: Objective = "sft",
    rejected: Literal["all", "worst"] = "all",
) -> Iterator[Conversation]:
    """Read conversations, one at a time, in the order of the data.

    Args:
        path: File, folder, glob, the address of one, ``-`` for standard input, or Hub id. Or the rows themselves: a list of dicts or
            `Conversation`s, a `datasets.Dataset`, a generator, a pandas frame; their places are ``rows[0]``, ``rows[1]``.
            Or a list of paths and tables.
        format: Name of a format, or ``auto`` to recognise the format of each row.
        columns: For ``pattern``: role to text with ``{column}`` in it.
        prompt_completion: Whether text of prompt/completion rows is a chat exchange or plain continuation.
        on_bad_row: ``stop`` raises at the first row that cannot be read; ``skip`` continues with the next row.
        split: Split of a Hub data set.
        subset: Configuration of a Hub data set.
        revision: Revision of a Hub data set.
        encoding: Encoding of text files; found by default.
        delimiter: Character between the fields of a CSV file; found by default.
        sheet: Sheet of a workbook; the first by default.
        on_error: With ``skip``, called with the error of each row that is left out.
        objective: What the rows are for. ``dpo``, ``ipo``, ``simpo`` and ``orpo`` read pairs: two conversations in a
            row, with ``side`` chosen and rejected. ``kto`` reads single answers, each with its side.
        rejected: Of several rejected answers, whether each makes a pair or only the worst.

    Raises:
        DataError: If the source does not exist, or, with ``stop``, a row cannot be read.

    Example:
        >>> import json, tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        ...     _ = file.write(json.dumps({"question": "2+2?", "answer": "4"}))
        ...     file.flush()
        ...     [message.content for message in next(read(file.name)).messages]
        ['2+2?', '4']
        >>> pair = read([{"prompt": "2+2?", "chosen": "4", "rejected": "5"}], objective="dpo")
        >>> [(conversation.side, conversation.messages[-1].content) for conversation in pair]
        [('chosen', '4'), ('rejected', '5')]
        >>> [str(conversation.place) for conversation in read([{"question": "2+2?", "answer": "4"}])]
        ['rows[0]']
    """
    sources = sources_in(path, name="instil.read")
    _check_choice("prompt_completion", prompt_completion, "chat", "plain")
    _check_choice("on_bad_row", on_bad_row, "stop", "skip")
    if on_error is not None and not callable(on_error):
        raise DataError(f"on_error: found {on_error!r:.80}. Expected a function. Pass one, or leave it out.")
    names = {"subset": subset, "revision": revision, "encoding": encoding, "delimiter": delimiter, "sheet": sheet}
    for name, value in ({"split": split} | {name: value for name, value in names.items() if value is not None}).items():
        if not isinstance(value, str):
            raise DataError(f"{name}: found {value!r:.80}. Expected text. Correct the argument.")
    if format != "auto":
        format_named(format)
    if columns or format == "pattern":
        check_columns(columns)
    _check_choice("rejected", rejected, "all", "worst")
    options = ReadOptions(columns, prompt_completion, reading_for(objective), rejected, "arguments")
    files = FileOptions(encoding, None if delimiter is None else _character(delimiter), sheet)
    parts = [
        read_raw_rows(os.fspath(source), split=split, subset=subset, revision=revision, options=files)
        if is_path(source)
        else rows_of(source)
        for source in sources
    ]
    return _read(chain.from_iterable(parts), format, options, None if on_bad_row == "stop" else on_error or _ignore)


def _read(
    rows: Iterator[tuple[Place, Any]], format: str, options: ReadOptions, on_error: Callable[[DataError], object] | None
) -> Iterator[Conversation]:
    """Yield the conversations of rows. Without `on_error`, the first row that cannot be read raises."""
    has_pairs = options.reading == "pairs"
    for place, raw, other in with_other_side(rows, follow_each_other if has_pairs else _never):
        assert place is not None
        try:
            if isinstance(raw, Conversation):
                first = replace(raw, place=place)
                group: Group = (first,) if other is None else (first, replace(other, place=place))
                conversations: Sequence[Conversation] = checked_group(group, options)
            else:
                row = json_row(raw, place) if place.source == ROWS else parse_row(raw, place)
                _, conversations = read_row(row, place, format_name=format, options=options)
        except DataError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        yield from conversations


def _never(first: Conversation, second: Conversation) -> bool:
    return False


def _check_choice(name: str, value: object, first: str, second: str) -> None:
    if not isinstance(value, str) or value not in (first, second):
        raise DataError(f"{name}: found {value!r:.80}. Expected {first} or {second}. Correct the argument.")


def _ignore(error: DataError) -> None:
    """Leave out a row without a word, as the caller asked."""


def _character(delimiter: str) -> str:
    try:
        return delimiter_named(delimiter)
    except ValueError as error:
        raise DataError(f"delimiter: found {delimiter!r}. {str(error).capitalize()}.") from None


def detect(
    path: str | SourceFile,
    *,
    split: str = "train",
    sample: int = SAMPLE_ROWS,
    options: FileOptions = AS_THE_FILE_SAYS,
    reading: Reading = "sft",
    **hub: Any,
) -> list[Detection]:
    """Look at the first rows of every file of a source, and return each file's format with the evidence.

    Args:
        path: File, folder, glob, the address of one, ``-`` for standard input, or Hub id.
        split: Split of a Hub data set.
        sample: Number of rows to look at in each file.
        options: How files are read.
        reading: What the rows are read for.
        **hub: ``subset`` and ``revision`` of a Hub data set.

    Raises:
        DataError: If the source does not exist, or a file cannot be read at all.
    """
    if isinstance(path, RemoteFile):
        return [_detect_file(path, sample, options, reading)]
    source = str(path)
    if source == "-" or is_hub_id(source):
        rows = islice(read_raw_rows(source, split=split, options=options, **hub), sample)
        return [detect_rows(source, rows, reading=reading)]
    return [
        _detect_file(file, sample, options, reading)
        for file in find_files(source, split=split, subset=hub.get("subset"))
    ]


def _detect_file(file: SourceFile, sample: int, options: FileOptions, reading: Reading) -> Detection:
    rows = islice(read_file(file, options=options), sample)
    return detect_rows(str(file), rows, seen=seen_in(file, options=options), reading=reading)


def other_names_in(path: SourceFile, format: str, *, options: FileOptions = AS_THE_FILE_SAYS) -> list[str]:
    """Return which columns of a file a format reads under another name, by its first rows.

    Raises:
        DataError: If the file cannot be read at all.
    """
    found: dict[str, None] = {}  # used as an ordered set
    for place, raw in islice(read_file(path, options=options), SAMPLE_ROWS):
        try:
            found |= dict.fromkeys(other_names(parse_row(raw, place), format_named(format)))
        except DataError:
            continue  # reading reports it
    return [", ".join(found)] if found else []


def detect_rows(
    source: str, rows: Iterator[tuple[Place, Any]], *, seen: Sequence[str] = (), reading: Reading = "sft"
) -> Detection:
    """Return the format of rows that were read already, with the evidence.

    Args:
        source: Name of their file.
        rows: The rows, not parsed.
        seen: What reading the file took from the file itself.
        reading: What the rows are read for.
    """
    counts: Counter[str] = Counter()
    reasons: Counter[tuple[str, str]] = Counter()
    unread: dict[str, None] = {}  # used as an ordered set
    for place, raw in rows:
        try:
            row = parse_row(raw, place)
        except DataError:
            counts["broken"] += 1
            continue
        recognised = recognise(row, reading)
        if recognised is None:
            counts["unknown"] += 1
            reasons["unknown", _columns_of(row)] += 1
            continue
        row_format, evidence = recognised
        counts[row_format.name] += 1
        reasons[row_format.name, evidence] += 1
        unread |= dict.fromkeys(_unread_columns(row_format.name, row, place, reading))
    best = max(counts, key=lambda name: (name not in ("broken", "unknown"), counts[name]), default="unknown")
    evidence = "; ".join([_evidence(best, counts, reasons, list(unread)), *seen])
    return Detection(source, best, evidence, dict(counts))


def _evidence(best: str, counts: Counter[str], reasons: Counter[tuple[str, str]], unread: list[str]) -> str:
    total = sum(counts.values())
    found = [f"{reason} in {count} of {total} rows" for (name, reason), count in reasons.most_common() if name == best]
    clauses = found[:_SHOWN_REASONS] + [f"{count} {name}" for name, count in counts.most_common() if name != best]
    if unread:
        more = " …" if len(unread) > _SHOWN_COLUMNS else ""
        clauses.append(f"columns that nothing reads: {', '.join(unread[:_SHOWN_COLUMNS])}{more}")
    return "; ".join(clauses) or "no row could be read"


def _unread_columns(format_name: str, row: Any, place: Place, reading: Reading) -> list[str]:
    """Return the columns of a row that the model never sees: they are kept, but are in no message."""
    try:
        _, conversations = read_row(row, place, format_name="auto", options=ReadOptions(reading=reading))
    except DataError:
        return []
    extra = conversations[0].extra if conversations else EMPTY
    return [key for key in extra if key not in _KEPT.get(format_name, ()) and not is_empty(extra[key])]


def _columns_of(row: Any) -> str:
    return f"columns {', '.join(map(str, row))}" if isinstance(row, Mapping) else kind_of(row)
