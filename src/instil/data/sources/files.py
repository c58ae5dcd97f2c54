"""Finds data files and opens them: plain or compressed, one, a folder of them, or a glob.

The first step of `instil.data.sources.rows`. Questionable on purpose: the suffix names the container, but whether a JSON file
holds one array or one value a line is read from its first bytes, because half of all ``.json`` files are lines.
"""

from __future__ import annotations

import glob
import io
import os
import sys
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias, cast

from instil.errors import DataError, nearest

Container: TypeAlias = Literal["json", "csv", "tsv", "parquet", "arrow", "txt"]

_CONTAINERS: dict[str, Container] = {
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".txt": "txt",
}
_COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
ALLOWED = ".json .jsonl .csv .tsv .parquet .arrow .txt, each also as .gz or .zst"
_NOT_DATA = frozenset({"dataset_info.json", "dataset_dict.json", "dataset_infos.json", "state.json"})


def container_of(path: str | Path) -> Container | None:
    """Tell a file's container by its name, or None where the name does not say.

    Example:
        >>> container_of("rows.jsonl.gz")
        'json'
    """
    name = Path(path).name.lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    return _CONTAINERS.get(Path(name).suffix)


def find_files(given: str, *, split: str = "train") -> list[Path]:
    """List the data files that a path means, sorted by name.

    Args:
        given: A file, a folder (searched through and through), or a glob.
        split: Which part of a folder that `datasets` saved with several splits.

    Raises:
        DataError: If nothing is there; the nearest name in the same folder is offered.
    """
    path = Path(given).expanduser()
    if path.is_dir():
        return _files_in(path, split)
    if path.exists():
        return [path]
    if glob.has_magic(given):
        found = sorted(Path(name) for name in glob.glob(os.path.expanduser(given), recursive=True))
        files = [file for file in found if file.is_file()]
        if files:
            return files
        raise DataError(f"{given}: no file matches; expected at least one; check the pattern")
    raise DataError(f"{given}: no such file{_nearest_file(path)}; expected a file, folder, glob or -; check the path")


def _files_in(folder: Path, split: str) -> list[Path]:
    if (folder / "dataset_dict.json").exists():
        if not (folder / split).is_dir():
            splits = ", ".join(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))
            raise DataError(f"{folder}: has no split {split!r}; there are: {splits}; set split")
        folder = folder / split
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and container_of(path) is not None
        and path.name not in _NOT_DATA
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not files:
        raise DataError(f"{folder}: no data file in this folder; expected {ALLOWED}; check the path")
    return files


def _nearest_file(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    return nearest(path.name, names)


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading, decompressed as its last suffix says.

    Raises:
        DataError: If it cannot be opened.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".gz":
            import gzip

            return cast("IO[bytes]", gzip.open(path, "rb"))
        if suffix == ".bz2":
            import bz2

            return cast("IO[bytes]", bz2.open(path, "rb"))
        if suffix == ".xz":
            import lzma

            return cast("IO[bytes]", lzma.open(path, "rb"))
        if suffix == ".zst":
            return io.BufferedReader(_ZstdFile(path.open("rb")), 1 << 20)
        return path.open("rb", buffering=1 << 20)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be opened ({error.strerror or error}); check the path and its rights"
        ) from None


class _ZstdFile(io.RawIOBase):
    """Zstandard frames, decompressed; unlike the library's own reader it notices a file that ends early."""

    def __init__(self, file: IO[bytes]) -> None:
        import zstandard

        self._file = file
        self._decompressor = zstandard.ZstdDecompressor()
        self._frame = self._decompressor.decompressobj()
        self._in_frame = False
        self._ready = b""

    def readable(self) -> bool:
        """Say that this is read from."""
        return True

    def readinto(self, into: Any) -> int:
        """Fill a buffer; 0 at the end."""
        while not self._ready:
            if self._frame.eof:
                data, self._in_frame = self._frame.unused_data, False
                self._frame = self._decompressor.decompressobj()
            else:
                data = b""
            data = data or self._file.read(1 << 16)
            if not data:
                if self._in_frame:
                    raise EOFError("the compressed data ends early")
                return 0
            self._in_frame = True
            self._ready = self._frame.decompress(data)
        size = min(len(into), len(self._ready))
        into[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def close(self) -> None:
        """Close the file too."""
        self._file.close()
        super().close()


def standard_input() -> IO[bytes]:
    """Give standard input as bytes."""
    return sys.stdin.buffer
