"""Turn a source (file, folder, glob, ``-``, Hub id) into rows with their places.

The first step of the data flow. Rows come one at a time, in the order of the files' names and of the rows in them.
Memory does not grow with the file.

Why: a line of JSON is yielded as bytes, and a broken row as its `DataError`. So the caller decides which process
parses, and whether to continue after a broken row. `parse_row` turns both into a value or an exception.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any

from instil.conversation import Place
from instil.data.sources.files import ALLOWED, container_of, find_files, open_bytes, standard_input
from instil.data.sources.hub import looks_like_hub_id, read_hub
from instil.data.sources.json_rows import parse_line, read_json
from instil.data.sources.tables import read_arrow, read_csv, read_parquet, read_text
from instil.errors import DataError

STDIN = "<stdin>"


def is_hub_id(source: str) -> bool:
    """Return whether a source is read from the Hub: it looks like an id, and neither it nor its folder is on disk."""
    if source.startswith("hf://"):
        return True
    path = Path(source).expanduser()
    return not path.exists() and container_of(source) is None and looks_like_hub_id(source) and not path.parent.is_dir()


def read_raw_rows(
    source: str, *, split: str = "train", subset: str | None = None, revision: str | None = None
) -> Iterator[tuple[Place, Any]]:
    """Yield every row of a source unparsed: bytes (a line of JSON), a value, or the `DataError` of a broken row.

    Args:
        source: File, folder, glob, ``-`` for standard input, or Hub id.
        split: Split of a Hub data set or of a folder that `datasets` saved.
        subset: Configuration of a Hub data set.
        revision: Branch, tag or commit of a Hub data set.

    Raises:
        DataError: If the source does not exist, or a file is empty or cannot be read at all.
    """
    if source == "-":
        yield from _not_empty(read_json(standard_input(), STDIN), STDIN)
    elif is_hub_id(source):
        yield from _not_empty(read_hub(source, split=split, subset=subset, revision=revision), source)
    else:
        for path in find_files(source, split=split):
            yield from read_file(path)


def read_file(path: Path, *, source: str | None = None) -> Iterator[tuple[Place, Any]]:
    """Yield every row of one file, as `read_raw_rows` does; places name the file as `source`."""
    source = source or str(path)
    container = container_of(path)
    if container is None:
        raise DataError(f"{path}: unknown kind of file. Expected {ALLOWED}. Rename or convert it.")
    _refuse_pointer(path)
    if container in ("parquet", "arrow"):
        if path.suffix.lower() not in (".parquet", ".arrow"):
            raise DataError(f"{path}: a compressed {container} file. Expected it uncompressed. Decompress it first.")
        reader = read_parquet if container == "parquet" else read_arrow
        yield from _not_empty(reader(path, source), source)
        return
    with closing(open_bytes(path)) as stream:
        yield from _not_empty(_decompressed(_read_stream(stream, source, container), source), source)


def _refuse_pointer(path: Path) -> None:
    """Raise an error if the file is the pointer that Git LFS leaves in place of a file that was not fetched."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return  # opening it to read the rows reports the reason
    if head.startswith(b"version https://git-lfs"):
        raise DataError(f"{path}: is a Git LFS pointer, not the data. Expected the file itself. Run: git lfs pull")


def _read_stream(stream: IO[bytes], source: str, container: str) -> Iterator[tuple[Place, Any]]:
    if container == "json":
        return read_json(stream, source)
    if container == "txt":
        return read_text(stream, source)
    return read_csv(stream, source, separator="\t" if container == "tsv" else ",")


def _decompressed(rows: Iterator[tuple[Place, Any]], source: str) -> Iterator[tuple[Place, Any]]:
    """Yield the rows, and raise a `DataError` if the compressed file turns out to be damaged."""
    try:
        yield from rows
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(_damaged(source, error)) from None
    except Exception as error:
        # By name, because zstandard and lzma may not be there to import their types from.
        if type(error).__name__ not in ("ZstdError", "LZMAError"):
            raise
        raise DataError(_damaged(source, error)) from None


def _damaged(source: str, error: Exception) -> str:
    return f"{source}: cannot be read to its end ({error}). The file is damaged. Download or copy it again."


def _not_empty(rows: Iterator[tuple[Place, Any]], source: str) -> Iterator[tuple[Place, Any]]:
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise DataError(f"{source}: holds no row. Expected at least one. Check the file.")


def parse_row(raw: Any, place: Place) -> Any:
    """Return the value of a row that `read_raw_rows` yielded.

    Raises:
        DataError: If the row is broken.
    """
    if isinstance(raw, bytes):
        return parse_line(raw, place)
    if isinstance(raw, DataError):
        raise raw
    return raw
