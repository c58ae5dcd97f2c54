"""From what a person names (file, folder, glob, ``-``, Hub id) to rows with their places.

The first arrow of the data flow. Rows come out in the order of the files' names and of the rows in them, one at a time;
memory does not grow with the file. Questionable on purpose: a line of JSON comes out as bytes and a row that is broken by
itself as the `DataError`, so that the caller decides who parses and whether to go on; `parse_row` does both.
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


def is_hub_id(given: str) -> bool:
    """Tell whether a source is read from the Hub: nothing is there on disk, and it looks like an id, not like a data file."""
    if given.startswith("hf://"):
        return True
    path = Path(given).expanduser()
    return not path.exists() and container_of(given) is None and looks_like_hub_id(given) and not path.parent.is_dir()


def read_raw_rows(
    given: str, *, split: str = "train", subset: str | None = None, revision: str | None = None
) -> Iterator[tuple[Place, Any]]:
    """Give every row of a source as it stands: bytes (a line of JSON), a parsed value, or the `DataError` it raised.

    Args:
        given: File, folder, glob, ``-`` for standard input, or Hub id.
        split: Split of a Hub data set or of a folder that `datasets` saved.
        subset: Configuration of a Hub data set.
        revision: Branch, tag or commit of a Hub data set.

    Raises:
        DataError: If nothing is there, a file is empty, or a file is broken as a whole.
    """
    if given == "-":
        yield from _not_empty(read_json(standard_input(), STDIN), STDIN)
    elif is_hub_id(given):
        yield from _not_empty(read_hub(given, split=split, subset=subset, revision=revision), given)
    else:
        for path in find_files(given, split=split):
            yield from read_file(path)


def read_file(path: Path, *, source: str | None = None) -> Iterator[tuple[Place, Any]]:
    """Give every row of one file, as `read_raw_rows` does; `source` names the file in places."""
    source = source or str(path)
    container = container_of(path)
    if container is None:
        raise DataError(f"{path}: unknown kind of file; expected {ALLOWED}; rename or convert it")
    _refuse_pointer(path)
    if container in ("parquet", "arrow"):
        if path.suffix.lower() not in (".parquet", ".arrow"):
            raise DataError(f"{path}: a compressed {container} file; expected it uncompressed; unpack it first")
        reader = read_parquet if container == "parquet" else read_arrow
        yield from _not_empty(reader(path, source), source)
        return
    with closing(open_bytes(path)) as stream:
        yield from _not_empty(_decompressed(_read_stream(stream, source, container), source), source)


def _refuse_pointer(path: Path) -> None:
    """Refuse what Git leaves in place of a large file that was not fetched."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return  # opening it for reading says why
    if head.startswith(b"version https://git-lfs"):
        raise DataError(f"{path}: is a Git LFS pointer, not the data; expected the file itself; run: git lfs pull")


def _read_stream(stream: IO[bytes], source: str, container: str) -> Iterator[tuple[Place, Any]]:
    if container == "json":
        return read_json(stream, source)
    if container == "txt":
        return read_text(stream, source)
    return read_csv(stream, source, separator="\t" if container == "tsv" else ",")


def _decompressed(rows: Iterator[tuple[Place, Any]], source: str) -> Iterator[tuple[Place, Any]]:
    """Turn the errors of damaged compressed files into ours; zstandard's own type is met by name to keep it optional."""
    try:
        yield from rows
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{source}: cannot be read to its end ({error}); the file is damaged; fetch it again") from None
    except Exception as error:
        if type(error).__name__ not in ("ZstdError", "LZMAError"):
            raise
        raise DataError(f"{source}: cannot be read to its end ({error}); the file is damaged; fetch it again") from None


def _not_empty(rows: Iterator[tuple[Place, Any]], source: str) -> Iterator[tuple[Place, Any]]:
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise DataError(f"{source}: holds no row; expected at least one; check the file")


def parse_row(raw: Any, place: Place) -> Any:
    """Give a raw row's value.

    Raises:
        DataError: If the row is broken.
    """
    if isinstance(raw, bytes):
        return parse_line(raw, place)
    if isinstance(raw, DataError):
        raise raw
    return raw
