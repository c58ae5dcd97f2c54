"""Find data files behind an address: one file, a folder of a bucket, or a pattern.

A folder is divided into splits as one on the disk is. Every file is pinned to the version that is found here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from instil.data.sources.splits import files_of_split, not_read, splits_of
from instil.errors import DataError
from instil.remote.ranged_files import RemoteFile
from instil.remote.storage import StorageError, Stored, storage_of
from instil.remote.urls import clean_url, joined_url, name_of_url

SourceFile: TypeAlias = Path | RemoteFile
"""A file of rows: on the disk, or behind an address."""


def find_stored(
    url: str, *, is_data: Callable[[str], bool], split: str = "train", subset: str | None = None
) -> list[RemoteFile]:
    """Return the data files of an address, sorted by it.

    Args:
        url: A file, a folder with its subfolders, or a pattern with ``*``.
        is_data: Whether a file of a folder holds data, by its name in the folder.
        split: The split to read from a folder; see `splits`.
        subset: The configuration to read from a folder with several in its README.md.

    Raises:
        DataError: If there is no file, or the storage cannot be reached.
        MissingPackageError: If the package for the storage is not installed.
    """
    url = clean_url(url)
    is_web = url.startswith("http")
    try:
        storage = storage_of(url)
        if not is_web and "*" in url:
            # As in a shell, a pattern finds no hidden file.
            found = [file for file in storage.matching(url) if not name_of_url(file.url).startswith(".")]
            if not found:
                raise DataError(f"{url}: no file matches. Expected at least one. Check the pattern.")
            return [RemoteFile(file) for file in found]
        file = storage.state(url)
        if file is not None:
            return [RemoteFile(file)]
        below = [] if is_web else storage.below(url)
    except StorageError as error:
        raise DataError(f"{url}: cannot be read ({error.reason}). Expected a file. {error.remedy}") from None
    if not below:
        kinds = "a file on the web server" if is_web else "a file, a folder or a pattern with *"
        raise DataError(f"{url}: no such file. Expected {kinds}. Check the address.")
    return _Folder(url, tuple(below)).split(is_data, split, subset)[0]


def left_in_stored(url: str, *, is_data: Callable[[str], bool], split: str = "train", subset: str | None = None) -> str:
    """Return the splits of a folder that are not read, for people; an empty string for anything else."""
    url = clean_url(url)
    if url.startswith("http") or "*" in url:
        return ""
    try:
        storage = storage_of(url)
        below = () if storage.state(url) is not None else tuple(storage.below(url))
    except StorageError as error:
        raise DataError(f"{url}: cannot be read ({error.reason}). Expected a folder. {error.remedy}") from None
    return _Folder(url, below).split(is_data, split, subset)[1] if below else ""


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder of a bucket.

    Attributes:
        url: Its address.
        files: Every file below it.
    """

    url: str
    files: tuple[Stored, ...]

    def split(self, is_data: Callable[[str], bool], split: str, subset: str | None) -> tuple[list[RemoteFile], str]:
        """Return the files of a split, and what else is in the folder."""
        names = {self._name(file): file for file in self.files}
        if "dataset_dict.json" in names:  # saved by `datasets` with several splits
            return self._saved_split(names, is_data, split)
        files = {RemoteFile(file): name for name, file in names.items() if is_data(name)}
        if not files:
            raise DataError(
                f"{self.url}: no data file in this folder. Expected JSONL, CSV or Parquet. Check the address."
            )
        by_split = splits_of(self.url, files, subset=subset, readme=lambda: self._readme(names))
        chosen = files_of_split(self.url, by_split, list(files), split)
        return chosen, not_read(by_split, list(files), chosen)

    def _saved_split(
        self, names: dict[str, Stored], is_data: Callable[[str], bool], split: str
    ) -> tuple[list[RemoteFile], str]:
        folders = sorted({name.partition("/")[0] for name in names if "/" in name})
        if split not in folders:
            raise DataError(f"{self.url}: has no split {split!r}. Expected one of: {', '.join(folders)}. Set split.")
        inside = f"{split}/"
        files = [
            RemoteFile(file)
            for name, file in names.items()
            if name.startswith(inside) and is_data(name.removeprefix(inside))
        ]
        return files, ", ".join(name for name in folders if name != split)

    def _name(self, file: Stored) -> str:
        return file.url.removeprefix(self.url.rstrip("/") + "/")

    def _readme(self, names: dict[str, Stored]) -> str | None:
        if "README.md" not in names:
            return None
        return storage_of(self.url).read(joined_url(self.url, "README.md")).decode("utf-8-sig", "replace")
