"""Stream the rows of tables: CSV, TSV, Parquet and Arrow; a text file is one row.

Why: nulls inside nested values of Parquet and Arrow are left out. If some messages of a column lack a key, these
formats fill it with nulls that the data never had.
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
_NUL = "holds a NUL. Expected text. Is the file UTF-16, binary or damaged? Write it again as UTF-8."
_NOT_UTF8 = "is not UTF-8. Expected UTF-8. Convert the file, for example: iconv -f WINDOWS-1252 -t UTF-8"


def read_csv(stream: IO[bytes], source: str, *, separator: str) -> Iterator[tuple[Place, Any]]:
    """Yield each row of a CSV or TSV file as a mapping. A row's number is the line on which it starts.

    A row with too many or too few fields is yielded as a `DataError`, so that the caller can skip it.

    Raises:
        DataError: If the header has a duplicate name, quotes are broken, or a byte is not UTF-8.
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
                found = f"has {len(fields)} fields. Expected {len(header)}, as in the header"
                yield place, DataError(f"{place}: {found}. Fix the quotes or separators of the row.")
    except csv.Error as error:
        raise DataError(f"{source}:{line + 1}: not valid CSV ({error}). Fix the quotes there.") from None
    finally:
        text.detach()


def _checked_lines(text: Iterable[str], source: str) -> Iterator[str]:
    """Yield the lines of a text that was decoded with ``surrogateescape``.

    Raises:
        DataError: On the first line with a byte that is not UTF-8, or with a NUL.
    """
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
            f"{source}:1: the header is one column, {header[0][:80]!r}, with {other!r} in it. Expected columns "
            f"separated by {separator!r}. Save the file with {separator!r}"
            f"{', or name it .tsv' if other == chr(9) else ''}."
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{source}:1: the header has {twice[0]!r} twice. Expected unique column names. Rename one.")


def read_parquet(path: Path, source: str) -> Iterator[tuple[Place, Any]]:
    """Yield each row of a Parquet file as a mapping. Memory holds a few hundred rows at a time.

    Raises:
        DataError: If it is not a Parquet file.
    """
    import pyarrow as pa  # Why: keeps `import instil` fast
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield from _rows_of(file.iter_batches(batch_size=_BATCH_ROWS), source)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{source}: not a readable Parquet file ({_first_line(error)}). Write it again.") from None


def read_arrow(path: Path, source: str) -> Iterator[tuple[Place, Any]]:
    """Yield each row of an Arrow IPC file or stream as a mapping.

    Raises:
        DataError: If it is neither.
    """
    import pyarrow as pa  # Why: keeps `import instil` fast

    try:
        with pa.memory_map(str(path)) as mapped:
            yield from _rows_of(_small_batches(mapped), source)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{source}: not a readable Arrow file ({_first_line(error)}). Write it again.") from None


def _rows_of(batches: Iterable[Any], source: str) -> Iterator[tuple[Place, Any]]:
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            number += 1
            yield Place(source, number), without_nulls(row)


def _small_batches(mapped: Any) -> Iterator[Any]:
    """Yield the record batches of an Arrow file or stream, cut into slices of `_BATCH_ROWS` rows."""
    for batch in _batches(mapped):
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            yield batch.slice(start, _BATCH_ROWS)


def _batches(mapped: Any) -> Iterator[Any]:
    import pyarrow as pa  # Why: keeps `import instil` fast

    try:
        file = pa.ipc.open_file(mapped)
    except pa.ArrowInvalid:  # `datasets` writes streams
        mapped.seek(0)
        yield from pa.ipc.open_stream(mapped)
        return
    for number in range(file.num_record_batches):
        yield file.get_batch(number)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["no reason given"])[0]


def without_nulls(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without null columns and without nulls in nested values.

    NaN counts as null, because pandas writes a missing number as NaN.

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
    """Yield a text file as one row with the column ``text``; an empty file has no row.

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
