"""Streams rows out of tables: CSV, TSV, Parquet, Arrow, and text files (one row a file).

Questionable on purpose: nulls inside nested values of Parquet and Arrow are left out, because a column that mixes
messages with and without a key fills the missing ones with nulls that nobody wrote.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from instil.conversation import Place
from instil.errors import DataError

_BATCH_ROWS = 256
_BROKEN_BYTE = re.compile("[\udc80-\udcff]")
_NUL = "holds a NUL; expected text; is the file UTF-16, binary or damaged? make it again as UTF-8"
_NOT_UTF8 = "is not UTF-8; expected UTF-8; convert the file, for example: iconv -f WINDOWS-1252 -t UTF-8"


def read_csv(stream: IO[bytes], source: str, *, separator: str) -> Iterator[tuple[Place, Any]]:
    """Give each row of a CSV or TSV file as a mapping; a row's number is the line on which it starts.

    Raises:
        DataError: If the header has a name twice, quotes are broken, or a byte is not UTF-8. A row with too many or too
            few fields is given as the error, so that it can be skipped.
    """
    csv.field_size_limit(2**31 - 1)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(_checked_lines(text, source), delimiter=separator, strict=True)
    line = 0
    try:
        header = next(reader, None)
        if header is None:
            return
        _check_header(header, source, separator)
        line = reader.line_num
        for fields in reader:
            place, line = Place(source, line + 1), reader.line_num
            if not fields:
                continue
            if len(fields) == len(header):
                yield place, dict(zip(header, fields, strict=True))
            else:
                yield (
                    place,
                    DataError(
                        f"{place}: has {len(fields)} fields; the header has {len(header)}; mend the row (quotes, separators)"
                    ),
                )
    except csv.Error as error:
        raise DataError(f"{source}:{line + 1}: not valid CSV ({error}); mend the quotes there") from None
    finally:
        text.detach()


def _checked_lines(text: Iterable[str], source: str) -> Iterator[str]:
    """Give the lines of a text whose broken bytes were escaped; refuse the first that has one, or a NUL."""
    for number, line in enumerate(text, start=1):
        if "\0" in line:
            raise DataError(f"{source}:{number}: {_NUL}")
        broken = None if line.isascii() else _BROKEN_BYTE.search(line)
        if broken is not None:
            raise DataError(f"{source}:{number}: byte 0x{ord(broken.group()) - 0xDC00:02x} {_NOT_UTF8}")
        yield line


def _check_header(header: list[str], source: str, separator: str) -> None:
    other = next((mark for mark in ",;\t|" if mark != separator and header[0].count(mark)), "")
    if len(header) == 1 and other:
        raise DataError(
            f"{source}:1: the header is one column, {header[0][:80]!r}; expected columns with {separator!r} between them, "
            f"found {other!r}; save the file with {separator!r}{', or name it .tsv' if other == chr(9) else ''}"
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{source}:1: the header has {twice[0]!r} twice; expected unique column names; rename one")


def read_parquet(path: Path, source: str) -> Iterator[tuple[Place, Any]]:
    """Give each row of a Parquet file as a mapping, a few hundred at a time.

    Raises:
        DataError: If it is no Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield Place(source, number), without_nulls(row)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{source}: not a readable Parquet file ({_first_line(error)}); make it again") from None


def read_arrow(path: Path, source: str) -> Iterator[tuple[Place, Any]]:
    """Give each row of an Arrow IPC file or stream as a mapping.

    Raises:
        DataError: If it is neither.
    """
    import pyarrow as pa

    number = 0
    try:
        with pa.memory_map(str(path)) as mapped:
            for batch in _batches(mapped):
                for start in range(0, batch.num_rows, _BATCH_ROWS):
                    for row in batch.slice(start, _BATCH_ROWS).to_pylist():
                        number += 1
                        yield Place(source, number), without_nulls(row)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{source}: not a readable Arrow file ({_first_line(error)}); make it again") from None


def _batches(mapped: Any) -> Iterator[Any]:
    import pyarrow as pa

    try:
        file = pa.ipc.open_file(mapped)
    except pa.ArrowInvalid:  # `datasets` writes the streaming form
        mapped.seek(0)
        yield from pa.ipc.open_stream(mapped)
        return
    for number in range(file.num_record_batches):
        yield file.get_batch(number)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["no reason given"])[0]


def without_nulls(row: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out null columns, and nulls in nested values; NaN is how pandas writes a missing number.

    Example:
        >>> without_nulls({"a": None, "b": [{"c": None, "d": 1}], "e": float("nan")})
        {'b': [{'d': 1}]}
    """
    return {key: _without_nulls(value) for key, value in row.items() if value is not None and value == value}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None and item == item}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def read_text(stream: IO[bytes], source: str) -> Iterator[tuple[Place, Any]]:
    """Give a text file as one row with the column ``text``.

    Raises:
        DataError: If it is not UTF-8.
    """
    data = stream.read()
    if b"\0" in data:
        raise DataError(f"{source}:{data.count(10, 0, data.index(0)) + 1}: {_NUL}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{source}:{line}: byte 0x{data[error.start]:02x} {_NOT_UTF8}") from None
    if text:
        yield Place(source, 1), {"text": text}
