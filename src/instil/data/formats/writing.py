"""`write`: conversations into a file of another format, whole or not at all."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from instil.conversation import Conversation
from instil.data.files import container_of
from instil.data.formats.registry import format_named
from instil.errors import DataError, FormatError


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
    rows = ((conversation, target.write(conversation)) for conversation in conversations)
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


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, default=_as_json) + "\n"


def _as_json(value: Any) -> Any:
    """Write values that only tables hold (days, times) as their text."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "items"):
        return dict(value)
    raise FormatError(
        f"a value of type {type(value).__name__} cannot be written as JSON; expected text, numbers, lists"
    )


def _write_lines(rows: Iterable[tuple[Conversation, dict[str, Any]]], stream: IO[str]) -> int:
    count = 0
    for _, row in rows:
        stream.write(_line(row))
        count += 1
    return count


def _write_array(rows: Iterable[tuple[Conversation, dict[str, Any]]], stream: IO[str]) -> int:
    count = 0
    for count, (_, row) in enumerate(rows, start=1):
        stream.write("[\n" if count == 1 else ",\n")
        stream.write(_line(row).rstrip("\n"))
    stream.write("\n]\n" if count else "[]\n")
    return count


def _write_table(rows: Iterable[tuple[Conversation, dict[str, Any]]], stream: IO[str], *, separator: str) -> int:
    count = 0
    writer: csv.DictWriter[str] | None = None
    for count, (conversation, row) in enumerate(rows, start=1):
        place = conversation.place or f"conversation {count}"
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
    """Write beside the target, and put it in place once it is whole and on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with aside.open("wb") as file:
            compressed = _compressor(path, file)
            text = io.TextIOWrapper(compressed, encoding="utf-8", newline="")
            try:
                yield text
            finally:
                text.flush()
                text.detach()
                if compressed is not file:
                    compressed.close()
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


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
