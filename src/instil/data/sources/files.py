"""Find data files (one file, a folder, a glob) and open them, compressed or not, here or behind an address.

The first step of `instil.data.sources.rows`.

Why: the suffix alone does not decide how a JSON file is laid out, because half of all ``.json`` files hold one value
per line. `json_rows` looks at the first bytes.
"""

from __future__ import annotations

import glob
import gzip
import io
import os
import sys
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias, cast

from instil.data.sources.splits import files_of_split, not_read, splits_of
from instil.data.sources.stored import SourceFile, find_stored, left_in_stored
from instil.errors import DataError
from instil.files import home_path, nearest_beside
from instil.remote.ranged_files import RemoteFile
from instil.remote.urls import EXPECTED, is_url, name_of_url

Container: TypeAlias = Literal["json", "csv", "tsv", "parquet", "arrow", "txt", "xlsx"]

_CONTAINERS: dict[str, Container] = {
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".txt": "txt",
    ".xlsx": "xlsx",
}
_COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
ALLOWED = ".json .jsonl .csv .tsv .txt, each also as .gz or .zst, or .parquet .arrow .xlsx"
_NOT_DATA = frozenset({"dataset_info.json", "dataset_dict.json", "dataset_infos.json", "state.json"})


def container_of(path: str | SourceFile) -> Container | None:
    """Return a file's container by its name, or None if the suffix is unknown.

    Example:
        >>> container_of("rows.jsonl.gz"), container_of("https://example.com/rows.csv?download=true")
        ('json', 'csv')
    """
    text = str(path)
    name = (name_of_url(text) if is_url(text) else Path(text).name).lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    return _CONTAINERS.get(Path(name).suffix)


def is_compressed(path: SourceFile) -> bool:
    """Return whether a file's name says that `open_bytes` decompresses it."""
    return path.suffix.lower() in _COMPRESSED


def find_files(pattern: str, *, split: str = "train", subset: str | None = None) -> list[SourceFile]:
    """Return the data files of a path, sorted by name.

    Args:
        pattern: A file, a folder (searched with its subfolders), or a glob; or the address of one.
        split: The split to read from a folder; see `splits`.
        subset: The configuration to read from a folder with several in its README.md.

    Raises:
        DataError: If there is no file. The message suggests the nearest name in the same folder.
    """
    if is_url(pattern):
        return list(find_stored(pattern, is_data=_is_data, split=split, subset=subset))
    path = home_path(pattern)
    if path.is_dir():
        return list(_files_in(path, split, subset)[0])
    if path.exists():
        return [path]
    if "://" in pattern:
        raise DataError(f"{pattern}: unknown kind of address. Expected {EXPECTED}. Correct it.")
    if glob.has_magic(pattern):
        matches = sorted(Path(name) for name in glob.glob(os.path.expanduser(pattern), recursive=True))
        files: list[SourceFile] = [match for match in matches if match.is_file()]
        if files:
            return files
        raise DataError(f"{pattern}: no file matches. Expected at least one. Check the pattern.")
    raise DataError(
        f"{pattern}: no such file{nearest_beside(path)}. Expected a file, folder, glob or -. Check the path."
    )


def left_in(pattern: str, *, split: str = "train", subset: str | None = None) -> str:
    """Return the splits of a folder that are not read, for people; an empty string for anything else."""
    if is_url(pattern):
        return left_in_stored(pattern, is_data=_is_data, split=split, subset=subset)
    path = home_path(pattern)
    return _files_in(path, split, subset)[1] if path.is_dir() else ""


def _files_in(folder: Path, split: str, subset: str | None) -> tuple[list[Path], str]:
    """Return the files of a split, and what else is in the folder."""
    saved = folder
    if (folder / "dataset_dict.json").exists():  # saved by `datasets` with several splits
        if not (folder / split).is_dir():
            splits = ", ".join(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))
            raise DataError(f"{folder}: has no split {split!r}. Expected one of: {splits}. Set split.")
        folder = folder / split
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and _is_data(path.relative_to(folder).as_posix())
    )
    if not files:
        raise DataError(f"{folder}: no data file in this folder. Expected {ALLOWED}. Check the path.")
    if folder != saved:
        others = sorted(entry.name for entry in saved.iterdir() if entry.is_dir() and entry != folder)
        return files, ", ".join(others)
    names = {path: path.relative_to(folder).as_posix() for path in files}
    by_split = splits_of(folder, names, readme=lambda: _readme(folder), subset=subset)
    chosen = files_of_split(folder, by_split, files, split)
    return chosen, not_read(by_split, files, chosen)


def _readme(folder: Path) -> str | None:
    path = folder / "README.md"
    return path.read_text(encoding="utf-8-sig") if path.exists() else None


def _is_data(name: str) -> bool:
    """Return whether a file of a folder holds data, by its path in the folder."""
    parts = name.split("/")
    return container_of(name) is not None and parts[-1] not in _NOT_DATA and not any(p.startswith(".") for p in parts)


def size_of(path: SourceFile) -> int:
    """Return the bytes of a file, as they are stored."""
    return path.stored.size if isinstance(path, RemoteFile) else path.stat().st_size


def open_stored(path: SourceFile) -> IO[bytes]:
    """Open a file for reading its bytes as they are stored; it can seek."""
    return path.open() if isinstance(path, RemoteFile) else path.open("rb", buffering=1 << 20)


def open_bytes(path: SourceFile) -> IO[bytes]:
    """Open a file for reading, decompressed according to its last suffix.

    Raises:
        DataError: If it cannot be opened.
    """
    suffix = path.suffix.lower()
    try:
        source: Any = path.open() if isinstance(path, RemoteFile) else path
        if suffix == ".gz":
            return cast("IO[bytes]", gzip.open(source, "rb"))
        if suffix == ".bz2":
            import bz2  # Why: some builds of Python lack it

            return cast("IO[bytes]", bz2.open(source, "rb"))
        if suffix == ".xz":
            import lzma  # Why: some builds of Python lack it

            return cast("IO[bytes]", lzma.open(source, "rb"))
        if suffix == ".zst":
            return io.BufferedReader(_ZstdFile(open_stored(path)), 1 << 20)
        return open_stored(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be opened ({error.strerror or error}). Check the path and its permissions."
        ) from None


class _ZstdFile(io.RawIOBase):
    """A reader of Zstandard frames. Unlike the library's own reader, it detects a truncated file."""

    def __init__(self, file: IO[bytes]) -> None:
        import zstandard  # Why: needed for .zst files only

        self._file = file
        self._decompressor = zstandard.ZstdDecompressor()
        self._frame = self._decompressor.decompressobj()
        self._in_frame = False
        self._ready = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, into: Any) -> int:
        """Fill a buffer and return the number of bytes; 0 at the end.

        Raises:
            EOFError: If the file ends inside a frame.
        """
        while not self._ready:
            # After the end of a frame, the bytes left over belong to the next one.
            if self._frame.eof:
                data, self._in_frame = self._frame.unused_data, False
                self._frame = self._decompressor.decompressobj()
            else:
                data = b""
            data = data or self._file.read(1 << 16)
            if not data:
                if self._in_frame:
                    raise EOFError("the compressed data is truncated")
                return 0
            self._in_frame = True
            self._ready = self._frame.decompress(data)
        size = min(len(into), len(self._ready))
        into[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def close(self) -> None:
        """Close the reader and its file."""
        self._file.close()
        super().close()


def standard_input() -> IO[bytes]:
    """Return standard input as a stream of bytes."""
    return sys.stdin.buffer
