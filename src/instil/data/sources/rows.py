"""Turn a source (file, folder, glob, address, ``-``, Hub id) into rows with their places.

The first step of the data flow. Rows come one at a time, in the order of the files' names and of the rows in them.
Memory does not grow with the file.

Why: a line of JSON is yielded as bytes, and a broken row as its `DataError`. So the caller decides which process
parses, and whether to continue after a broken row. `parse_row` turns both into a value or an exception.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeVar

from instil.conversation import Place
from instil.data.sources.csv_rows import SNIFFED_LINES, delimiter_of, read_csv
from instil.data.sources.encodings import Encoding, encoding_of, joined_stream, named_encoding, utf8_stream
from instil.data.sources.files import (
    ALLOWED,
    Container,
    container_of,
    find_files,
    is_compressed,
    open_bytes,
    open_stored,
    standard_input,
)
from instil.data.sources.hub import looks_like_hub_id, read_hub
from instil.data.sources.json_rows import first_line_of, parse_line, read_json
from instil.data.sources.stored import SourceFile
from instil.data.sources.tables import read_arrow, read_parquet, read_text
from instil.data.sources.workbooks import read_workbook, sheet_of
from instil.errors import DataError
from instil.files import home_path
from instil.remote.ranged_files import RemoteFile
from instil.remote.urls import is_hub_dataset, is_url

STDIN = "<stdin>"
_SEPARATORS = {"csv": ",", "tsv": "\t"}
_REMOTE_HEAD = 1 << 20
_NO_ASCII = bytes(range(0x80, 0x100))

_Item = TypeVar("_Item")


def is_hub_id(source: str) -> bool:
    """Return whether a source is read from the Hub: it looks like an id, and neither it nor its folder is on disk."""
    if is_url(source):
        return is_hub_dataset(source)
    path = home_path(source)
    return not path.exists() and container_of(source) is None and looks_like_hub_id(source) and not path.parent.is_dir()


@dataclass(frozen=True, slots=True)
class FileOptions:
    """Settings of a source that say how its files are read; None where the file itself says it.

    Attributes:
        encoding: Encoding of text files.
        delimiter: Character between the fields of a CSV file.
        sheet: Sheet of a workbook.
    """

    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None


AS_THE_FILE_SAYS = FileOptions()


def read_raw_rows(
    source: str,
    *,
    split: str = "train",
    subset: str | None = None,
    revision: str | None = None,
    options: FileOptions = AS_THE_FILE_SAYS,
) -> Iterator[tuple[Place, Any]]:
    """Yield every row of a source unparsed: bytes (a line of JSON), a value, or the `DataError` of a broken row.

    Args:
        source: File, folder, glob, the address of one, ``-`` for standard input, or Hub id.
        split: Split of a Hub data set or of a folder that `datasets` saved.
        subset: Configuration of a Hub data set.
        revision: Branch, tag or commit of a Hub data set.
        options: How files are read.

    Raises:
        DataError: If the source does not exist, or a file is empty or cannot be read at all.
    """
    if source == "-":
        yield from _not_empty(read_json(_standard_input_as_utf8(options), STDIN), STDIN)
    elif is_hub_id(source):
        yield from _not_empty(read_hub(source, split=split, subset=subset, revision=revision), source)
    else:
        for path in find_files(source, split=split, subset=subset):
            yield from read_file(path, options=options)


def read_file(
    path: SourceFile, *, source: str | None = None, options: FileOptions = AS_THE_FILE_SAYS
) -> Iterator[tuple[Place, Any]]:
    """Yield every row of one file, as `read_raw_rows` does; places name the file as `source`."""
    source = source or str(path)
    container = _checked_container(path)
    if container in ("parquet", "arrow"):
        reader = read_parquet if container == "parquet" else read_arrow
        yield from _not_empty(reader(path, source), source)
    elif container == "xlsx":
        yield from _not_empty(read_workbook(path, source, sheet=options.sheet), source)
    else:
        yield from _not_empty(_decompressed(_read_text_file(path, source, container, options), source), source)


def _checked_container(path: SourceFile) -> Container:
    container = container_of(path)
    if container is None:
        old = " Save it as .xlsx." if path.suffix.lower() in (".xls", ".ods") else " Rename or convert it."
        raise DataError(f"{path}: unknown kind of file. Expected {ALLOWED}.{old}")
    _refuse_pointer(path)
    if container in ("parquet", "arrow", "xlsx") and path.suffix.lower() not in (".parquet", ".arrow", ".xlsx"):
        raise DataError(f"{path}: a compressed {container} file. Expected it uncompressed. Decompress it first.")
    return container


def seen_in(path: SourceFile, *, source: str | None = None, options: FileOptions = AS_THE_FILE_SAYS) -> list[str]:
    r"""Return what reading a file takes from the file itself and is no matter of course: encoding, delimiter, sheet.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        ...     _ = file.write("question;answer\n2+2;für später\n".encode("cp1252")); file.flush()
        ...     seen_in(Path(file.name))
        ['encoding Windows-1252, guessed', 'delimiter semicolon, by its header']

    Raises:
        DataError: If the file cannot be read.
    """
    source = source or str(path)
    container = _checked_container(path)
    if container in ("parquet", "arrow"):
        return []
    if container == "xlsx":
        return [f"sheet {sheet_of(path, source, sheet=options.sheet)!r}"]
    return list(_decompressed(_seen_in_text(path, source, container, options), source))


def _seen_in_text(path: SourceFile, source: str, container: Container, options: FileOptions) -> Iterator[str]:
    encoding = _encoding_of(path, source, options)
    if encoding.how:
        yield f"encoding {encoding}"
    if container in ("csv", "tsv"):
        with closing(open_bytes(path)) as stream:
            text = io.TextIOWrapper(utf8_stream(stream, encoding, source), "utf-8-sig", "surrogateescape", newline="")
            delimiter = delimiter_of(
                list(islice(text, SNIFFED_LINES)), default=_SEPARATORS[container], chosen=options.delimiter
            )
            text.detach()
        if delimiter.how:
            yield f"delimiter {delimiter}"


def why_not_lines(path: SourceFile, *, source: str | None = None, options: FileOptions = AS_THE_FILE_SAYS) -> str:
    r"""Return why the rows of a file are not lines of its bytes; an empty string if they are.

    Where they are, a process that knows the offset of a line reads rows from there without reading what is before them.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile(suffix=".json") as file:
        ...     _ = file.write(b'[{"text": "a"},\n {"text": "b"}]'); file.flush()
        ...     why_not_lines(Path(file.name))
        'it is one JSON array or has rows of several lines'

    Raises:
        DataError: If the file cannot be read.
    """
    source = source or str(path)
    container = _checked_container(path)
    if container != "json":
        return f"it is a {container} file"
    if isinstance(path, RemoteFile):
        return "it is not on a disk that all of them share"
    if is_compressed(path):
        return "it is compressed"
    with closing(open_bytes(path)) as stream:
        if first_line_of(stream) is None:
            return "it is one JSON array or has rows of several lines"
    encoding = _encoding_of(path, source, options)
    return "" if encoding.is_plain else f"its encoding is {encoding.name}"


def _encoding_of(path: SourceFile, source: str, options: FileOptions) -> Encoding:
    if options.encoding is not None:
        return named_encoding(options.encoding)
    if isinstance(path, RemoteFile):
        return _encoding_of_head(path, source)
    stat = path.stat()
    return _found_encoding(path, source, (stat.st_size, stat.st_mtime_ns, stat.st_ino))


@lru_cache(maxsize=256)
def _encoding_of_head(path: RemoteFile, source: str) -> Encoding:
    """Find the encoding of a remote file by its first part.

    Why: the whole file would come over the network to say what its first part nearly always says. A later byte that
    does not fit is an error of its row, which names data.encoding.
    """
    with closing(open_bytes(path)) as stream:
        head = stream.read(_REMOTE_HEAD)
    # The end may cut a character, so it counts only up to the last line or the last whole character.
    whole = len(head) < _REMOTE_HEAD
    return encoding_of([head if whole else head[: head.rfind(b"\n") + 1] or head.rstrip(_NO_ASCII)], source)


@lru_cache(maxsize=256)
def _found_encoding(path: Path, source: str, state: tuple[int, int, int]) -> Encoding:
    """Read a file once to find its encoding. `state` makes the answer void where the file changes."""
    with closing(open_bytes(path)) as stream:
        return encoding_of(iter(lambda: stream.read(1 << 20), b""), source)


def _standard_input_as_utf8(options: FileOptions) -> IO[bytes]:
    """Return standard input in UTF-8. It cannot be read twice, so its first part decides the encoding."""
    stream = standard_input()
    head = stream.read(1 << 20)
    encoding = encoding_of([head], STDIN) if options.encoding is None else named_encoding(options.encoding)
    return utf8_stream(joined_stream(head, stream), encoding, STDIN)


def text_of(path: SourceFile, *, options: FileOptions = AS_THE_FILE_SAYS) -> str:
    """Return the text of a file, decoded as its rows would be.

    Raises:
        DataError: If it cannot be read, or its encoding is not certain.
    """
    rows = list(_decompressed(_read_text_file(path, str(path), "txt", options), str(path)))
    return str(rows[0][1]["text"]) if rows else ""  # an empty file has no row


def _refuse_pointer(path: SourceFile) -> None:
    """Raise an error if the file is the pointer that Git LFS leaves in place of a file that was not fetched."""
    try:
        with open_stored(path) as file:
            head = file.read(64)
    except OSError:
        return  # opening it to read the rows reports the reason
    if head.startswith(b"version https://git-lfs"):
        raise DataError(f"{path}: is a Git LFS pointer, not the data. Expected the file itself. Run: git lfs pull")


def _read_text_file(
    path: SourceFile, source: str, container: Container, options: FileOptions
) -> Iterator[tuple[Place, Any]]:
    with closing(open_bytes(path)) as raw:
        stream = utf8_stream(raw, _encoding_of(path, source, options), source)
        if container == "json":
            yield from read_json(stream, source)
        elif container == "txt":
            yield from read_text(stream, source)
        else:
            yield from read_csv(stream, source, separator=_SEPARATORS[container], chosen=options.delimiter)


def _decompressed(rows: Iterator[_Item], source: str) -> Iterator[_Item]:
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
