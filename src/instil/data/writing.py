"""Write conversations to a file in any format (`write`). The file appears complete, or not at all.

Why: every row is read back before it is written. A target format may give a column another meaning (``documents``,
``system_prompt`` …), and only reading shows that. Reading back costs a tenth of tokenizing.
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
from instil.conversation.strict_json import RefusedJson, parse_text
from instil.data.formats.preferences.kto import KTO
from instil.data.formats.preferences.preference import PREFERENCE
from instil.data.formats.registry import format_named, target_named
from instil.data.formats.row_format import ReadOptions, RowFormat, cannot_hold
from instil.data.json_values import as_json, json_of
from instil.data.messages import conversation_to_dict
from instil.data.side_columns import is_empty
from instil.data.sides import Group, checked_group, follow_each_other, with_other_side
from instil.data.sources.files import container_of
from instil.errors import DataError, FormatError
from instil.files import atomic_file, home_path, new_folders
from instil.refused_writes import refused_writes


def write_conversations(conversations: Iterable[Conversation], path: str | Path, *, format: str = "messages") -> int:
    """Write conversations. The file appears complete, or not at all.

    Args:
        conversations: The conversations to write. Two in a row with the sides chosen and rejected are one row of the
            format ``preference``, and two rows of ``kto``.
        path: A .jsonl, .json, .csv or .tsv file, each also as .gz or .zst. ``-`` writes lines to standard output.
        format: Name of the format to write.

    Returns:
        The number of rows written.

    Raises:
        FormatError: If the format would lose a part of a conversation. Nothing is written then.
        DataError: If the file cannot be written, or has a suffix that is not supported.
    """
    target = target_named(format)
    rows = (_checked(group, target) for group in _groups(conversations, target))
    if str(path) == "-":
        return _write_to_stdout(rows)
    path = home_path(path)
    container = container_of(path)
    if container not in ("json", "csv", "tsv"):
        raise DataError(
            f"{path}: this kind of file cannot be written. Expected .jsonl, .json, .csv or .tsv, each also as .gz or "
            ".zst. Choose one of them."
        )
    with refused_writes(path, raises=DataError, otherwise="choose another file"), _atomic(path) as stream:
        if container != "json":
            return _write_table(rows, stream, separator="\t" if container == "tsv" else ",")
        if ".json" in path.suffixes:
            return _write_array(rows, stream)
        return _write_lines(rows, stream)


def _groups(conversations: Iterable[Conversation], target: RowFormat) -> Iterator[Group]:
    """Yield what becomes one row each: a conversation, or a pair where the target has rows of pairs."""
    if target.write_pair is None:
        yield from ((conversation,) for conversation in conversations)
        return
    rows = ((None, conversation) for conversation in conversations)
    for _, conversation, other in with_other_side(rows, follow_each_other):
        yield (conversation,) if other is None else (conversation, other)


@dataclass(frozen=True, slots=True)
class _Written:
    """One checked row, ready to be written.

    Attributes:
        conversation: The conversation that the row holds.
        row: The row.
        line: The row as JSON.
    """

    conversation: Conversation
    row: Mapping[str, Any]
    line: str


def _checked(group: Group, target: RowFormat) -> _Written:
    """Build a row, and check by reading it back that it holds the complete conversation, or both sides of a pair.

    Raises:
        FormatError: If something would be lost or read with another meaning.
    """
    conversation = group[0]
    place = conversation.place or Place("conversation", 1)
    row, options = _row_of(group, target)
    line = json_of(row, place=conversation.place or "conversation")
    try:
        read_back = target.read(parse_text(line), place, options)
    except (ValueError, RecursionError, RefusedJson) as error:
        reason = str(error).removesuffix(".")
        raise FormatError(cannot_hold(conversation, "JSON", f"a value ({reason})", "Drop or fix that value.")) from None
    except DataError as error:
        reason = str(error).removeprefix(f"{place}: ").removesuffix(".")
        raise FormatError(cannot_hold(conversation, target.name, f"a row that does not read back ({reason})")) from None
    difference = _difference(checked_group(group, options), read_back)
    if difference:
        raise FormatError(
            f"{conversation.place or 'conversation'}: has {difference}, which {target.name} would read with another "
            "meaning. Expected none. Rename or drop that column."
        )
    return _Written(conversation, row, line)


def _row_of(group: Group, target: RowFormat) -> tuple[dict[str, Any], ReadOptions]:
    """Return a row of the target format, and how it is read back."""
    first = group[0]
    if len(group) == 2 and target.write_pair is not None:
        return target.write_pair(*group), ReadOptions(reading="pairs")
    if first.side is None or target.holds_side:
        return target.write(first), ReadOptions(reading="sft" if first.side is None else "judged")
    other = "chosen" if first.side == "rejected" else "rejected"
    what = f"the side {first.side}" + (f" and no {other} one beside it" if target.write_pair is not None else "")
    remedy = "Use --to kto instead." if target.write_pair is not None else "Use --to preference or --to kto instead."
    raise FormatError(cannot_hold(first, target.name, what, remedy))


def checked_line(conversation: Conversation, place: Place, *, rejected: Conversation | None = None) -> str:
    """Return a conversation as a line of the messages format; with a side as a line of ``kto``.

    Args:
        conversation: The conversation.
        place: Its place, for errors.
        rejected: The other side of a pair. Both are then one line of the format ``preference``.

    Raises:
        FormatError: If something would be lost or read with another meaning. It names the place.
    """
    conversation = replace(conversation, place=place)
    if rejected is not None:
        return _checked((conversation, replace(rejected, place=place)), PREFERENCE).line
    return _checked((conversation,), format_named("messages") if conversation.side is None else KTO).line


def _difference(written: Sequence[Conversation], read_back: Sequence[Conversation]) -> str:
    """Name what was lost by being written and read back; an empty string if nothing was."""
    if len(read_back) != len(written):
        return "a column that splits it into several conversations"
    differences = (_difference_of(before, after) for before, after in zip(written, read_back, strict=True))
    return next(filter(None, differences), "")


def _difference_of(conversation: Conversation, read_back: Conversation) -> str:
    before, after = _values(conversation), _values(read_back)
    given_way = [key for key, value in before["extra"].items() if is_empty(value) and key not in after["extra"]]
    for key in given_way:
        del before["extra"][key]  # an empty column gives way to the format's own column of that name
    if before == after:
        return ""
    columns = [key for key in conversation.extra if before["extra"].get(key) != after["extra"].get(key)]
    # An empty column may also mean something to the format, as ``enable_thinking`` does to ``messages``.
    columns += [key for key in given_way if key in read_back.variables]
    if columns:
        return f"a column of its own named {columns[0]!r}"
    return next(key for key in before | after if before.get(key) != after.get(key))


def _values(conversation: Conversation) -> dict[str, Any]:
    """Return everything that a conversation holds except its place, as JSON values."""
    row = conversation_to_dict(replace(conversation, extra=EMPTY)) | {"extra": dict(conversation.extra)}
    row["side"] = conversation.side
    return cast("dict[str, Any]", json.loads(json.dumps(row, default=as_json)))


def _write_to_stdout(rows: Iterable[_Written]) -> int:
    """Write lines in UTF-8, whatever the terminal's encoding: what reads them is another program."""
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None:  # a stream of text that replaces standard output
        return _write_lines(rows, sys.stdout)
    sys.stdout.flush()
    text = io.TextIOWrapper(binary, encoding="utf-8", newline="")
    try:
        return _write_lines(rows, text)
    finally:
        text.flush()
        text.detach()


def _write_lines(rows: Iterable[_Written], stream: IO[str]) -> int:
    count = 0
    for written in rows:
        stream.write(written.line + "\n")
        count += 1
    return count


def _write_array(rows: Iterable[_Written], stream: IO[str]) -> int:
    count = 0
    for count, written in enumerate(rows, start=1):
        stream.write("[\n" if count == 1 else ",\n")
        stream.write(written.line)
    stream.write("\n]\n" if count else "[]\n")
    return count


def _write_table(rows: Iterable[_Written], stream: IO[str], *, separator: str) -> int:
    count = 0
    writer: csv.DictWriter[str] | None = None
    for count, written in enumerate(rows, start=1):
        row, place = written.row, written.conversation.place or f"conversation {count}"
        nested = [key for key, value in row.items() if not isinstance(value, str)]
        if nested:
            raise FormatError(
                f"{place}: column {nested[0]!r} is not text. A table can hold only text. Write a .jsonl file instead."
            )
        if writer is None:
            writer = csv.DictWriter(stream, fieldnames=list(row), delimiter=separator)
            writer.writeheader()
        if set(row) != set(writer.fieldnames):
            raise FormatError(
                f"{place}: has columns {', '.join(row)}. The table has {', '.join(writer.fieldnames)}. "
                "Write a .jsonl file instead."
            )
        writer.writerow(row)
    return count


@contextmanager
def _atomic(path: Path) -> Iterator[IO[str]]:
    """Open a text file that appears complete, or not at all. Its suffix decides the compression."""
    with new_folders(path.parent), atomic_file(path) as file:
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
        import zstandard  # Why: needed for .zst files only

        return cast("IO[bytes]", zstandard.ZstdCompressor().stream_writer(file, closefd=False))
    if suffix in (".bz2", ".xz"):
        raise DataError(f"{path}: {suffix} can only be read. Expected .gz or .zst. Choose one of them.")
    return file
