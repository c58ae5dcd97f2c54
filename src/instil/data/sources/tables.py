"""Stream the rows of Parquet and Arrow tables; a text file is one row.

Why: nulls inside nested values of Parquet and Arrow are left out. If some messages of a column lack a key, these
formats fill it with nulls that the data never had.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import IO, Any

from instil.conversation import Place
from instil.data.sources.csv_rows import NUL, not_utf8
from instil.data.sources.stored import SourceFile
from instil.errors import DataError
from instil.remote.ranged_files import RemoteFile

_BATCH_ROWS = 256


def read_parquet(path: SourceFile, source: str) -> Iterator[tuple[Place, Any]]:
    """Yield each row of a Parquet file as a mapping. Memory holds a few hundred rows at a time.

    Raises:
        DataError: If it is not a Parquet file.
    """
    import pyarrow as pa  # Why: keeps `import instil` fast
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path.open() if isinstance(path, RemoteFile) else path) as file:
            yield from _rows_of(file.iter_batches(batch_size=_BATCH_ROWS), source)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{source}: not a readable Parquet file ({_first_line(error)}). Write it again.") from None


def read_arrow(path: SourceFile, source: str) -> Iterator[tuple[Place, Any]]:
    """Yield each row of an Arrow IPC file or stream as a mapping.

    Raises:
        DataError: If it is neither.
    """
    import pyarrow as pa  # Why: keeps `import instil` fast

    try:
        with pa.PythonFile(path.open()) if isinstance(path, RemoteFile) else pa.memory_map(str(path)) as mapped:
            yield from _rows_of(_small_batches(mapped), source)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{source}: not a readable Arrow file ({_first_line(error)}). Write it again.") from None


def _rows_of(batches: Iterable[Any], source: str) -> Iterator[tuple[Place, Any]]:
    number = 0
    for batch in batches:
        for row in rows_of_batch(batch):
            number += 1
            yield Place(source, number), row


def rows_of_batch(batch: Any) -> list[dict[str, Any]]:
    """Return the rows of a record batch, without its nulls. A map is an object, as in JSON.

    A map with a key twice is a list of pairs, because an object would lose one of them.
    """
    rows = None
    if "map<" in str(batch.schema):  # the way with maps is several times slower
        with suppress(KeyError):
            rows = batch.to_pylist(maps_as_pydicts="strict")
    return [without_nulls(row) for row in (batch.to_pylist() if rows is None else rows)]


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
        raise DataError(f"{source}:{data.count(10, 0, data.index(0)) + 1}: {NUL}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        end = data.find(b"\n", error.start)
        found = not_utf8(data[data.rfind(b"\n", 0, error.start) + 1 : end if end >= 0 else None])
        raise DataError(f"{source}:{line}: byte 0x{data[error.start]:02x} {found}") from None
    if text:
        yield Place(source, 1), {"text": text}
