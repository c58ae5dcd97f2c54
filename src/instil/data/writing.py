"""`write`: conversations into a file of another format, whole or not at all.

Questionable on purpose: every row is read back before it counts as written. A target that silently means something else by
a column (``documents``, ``system_prompt`` …) cannot be told from its own code alone; reading is a tenth of what tokenizing costs.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast

from instil.conversation import EMPTY, Conversation, Place
from instil.data.formats.registry import format_named
from instil.data.formats.row_format import ReadOptions, RowFormat, cannot_hold
from instil.data.messages import conversation_to_dict
from instil.data.sources.files import container_of
from instil.data.sources.strict_json import RefusedJson, parse_text
from instil.errors import DataError, FormatError
from instil.files import atomic_file


def write(conversations: Iterable[Conversation], path: str | Path, *, format: str = "messages") -> int:
    """Write conversations; the file appears whole, or not at all.

    Args:
        conversations: What to write.
        path: A .jsonl, .json, .csv or .tsv file, each also .gz or .zst; ``-`` is standard output, as lines.
        format: One of the formats.

    Returns:
        The number of rows written.

    Raises:
        FormatError: If the format cannot hold a conversation without a loss; nothing is written then.
        DataError: If the file cannot be written, or its kind is not one that is written.
    """
    target = format_named(format)
    if format == "pattern":
        raise FormatError(f"{path}: pattern is only read; expected another format; write --to messages")
    rows = (_checked(conversation, target) for conversation in conversations)
    if str(path) == "-":
        return _write_lines(rows, sys.stdout)
    path = Path(path)
    container = container_of(path)
    if container not in ("json", "csv", "tsv"):
        raise DataError(
            f"{path}: this kind of file is not written; expected .jsonl, .json, .csv or .tsv, each also .gz, .zst"
        )
    try:
        with _atomic(path) as stream:
            if container != "json":
                return _write_table(rows, stream, separator="\t" if container == "tsv" else ",")
            if ".json" in path.suffixes:
                return _write_array(rows, stream)
            return _write_lines(rows, stream)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror or error}); check the folder and its rights"
        ) from None


@dataclass(frozen=True, slots=True)
class _Written:
    """One row to write.

    Attributes:
        conversation: What it is made of.
        row: The row.
        line: The row as JSON.
    """

    conversation: Conversation
    row: Mapping[str, Any]
    line: str


def _checked(conversation: Conversation, target: RowFormat) -> _Written:
    """Make a row, and read it back to see that it holds all of the conversation.

    Raises:
        FormatError: If something would be lost or read as something else.
    """
    place = conversation.place or Place("conversation", 1)
    row = target.write(conversation)
    try:
        line = json.dumps(row, ensure_ascii=False, allow_nan=False, default=as_json)
        read = target.read(parse_text(line), place, ReadOptions())
    except (ValueError, RecursionError, RefusedJson) as error:
        what = "half a surrogate pair" if isinstance(error, UnicodeEncodeError) else str(error)
        raise FormatError(cannot_hold(conversation, "JSON", f"a value ({what})", "drop or mend that value")) from None
    except DataError as error:
        said = str(error).removeprefix(f"{place}: ")
        raise FormatError(cannot_hold(conversation, target.name, f"what it would not read ({said})")) from None
    changed = _changed(conversation, read)
    if changed:
        what = f"{changed}, which would be read as something else:"
        raise FormatError(cannot_hold(conversation, target.name, what, "rename or drop that column"))
    return _Written(conversation, row, line)


def _changed(conversation: Conversation, read: Sequence[Conversation]) -> str:
    """Name what a conversation does not have any more after it was written and read; nothing where all is there."""
    if len(read) != 1:
        return "a column that makes several conversations of it"
    was, now = _values(conversation), _values(read[0])
    if was == now:
        return ""
    columns = [key for key in conversation.extra if was["extra"].get(key) != now["extra"].get(key)]
    return f"a column of its own named {columns[0]!r}" if columns else next(key for key in was if was[key] != now[key])


def _values(conversation: Conversation) -> dict[str, Any]:
    """Give all that a conversation holds but its place, as JSON holds it."""
    row = conversation_to_dict(replace(conversation, extra=EMPTY)) | {"extra": dict(conversation.extra)}
    return cast("dict[str, Any]", json.loads(json.dumps(row, default=as_json)))


def as_json(value: Any) -> Any:
    """Write values that only tables hold (days, times) as their text.

    Raises:
        FormatError: If a value has no such text.
    """
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "items"):
        return dict(value)
    raise FormatError(
        f"a value of type {type(value).__name__} cannot be written as JSON; expected text, numbers, lists"
    )


def _write_lines(rows: Iterable[_Written], stream: IO[str]) -> int:
    count = 0
    for each in rows:
        stream.write(each.line + "\n")
        count += 1
    return count


def _write_array(rows: Iterable[_Written], stream: IO[str]) -> int:
    count = 0
    for count, each in enumerate(rows, start=1):
        stream.write("[\n" if count == 1 else ",\n")
        stream.write(each.line)
    stream.write("\n]\n" if count else "[]\n")
    return count


def _write_table(rows: Iterable[_Written], stream: IO[str], *, separator: str) -> int:
    count = 0
    writer: csv.DictWriter[str] | None = None
    for count, each in enumerate(rows, start=1):
        row, place = each.row, each.conversation.place or f"conversation {count}"
        nested = [key for key, value in row.items() if not isinstance(value, str)]
        if nested:
            raise FormatError(
                f"{place}: column {nested[0]!r} is no text, which a table cannot hold; write a .jsonl file instead"
            )
        if writer is None:
            writer = csv.DictWriter(stream, fieldnames=list(row), delimiter=separator)
            writer.writeheader()
        if set(row) != set(writer.fieldnames):
            raise FormatError(
                f"{place}: has columns {', '.join(row)}; the table has {', '.join(writer.fieldnames)}; write a .jsonl file instead"
            )
        writer.writerow(row)
    return count


@contextmanager
def _atomic(path: Path) -> Iterator[IO[str]]:
    """Open a text file that appears whole, or not at all; its suffix decides the compression."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        compressed = _compressor(path, file)
        text = io.TextIOWrapper(compressed, encoding="utf-8", newline="")
        try:
            yield text
        finally:
            text.flush()
            text.detach()
            if compressed is not file:
                compressed.close()


def _compressor(path: Path, file: IO[bytes]) -> IO[bytes]:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return cast("IO[bytes]", gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0))
    if suffix == ".zst":
        import zstandard

        return cast("IO[bytes]", zstandard.ZstdCompressor().stream_writer(file, closefd=False))
    if suffix in (".bz2", ".xz"):
        raise DataError(f"{path}: {suffix} is only read; expected .gz or .zst; choose one of them")
    return file
