"""Compute the key of a store: a fingerprint of data, template, tokenizer and settings, equal in every process.

Files are hashed by content, remote files are known by version and size. The hashes are saved beside the stores and used again while a file's size, modification
time and inode stay the same.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from instil.data.memory_rows import OTHER_STORE
from instil.data.sources.stored import SourceFile
from instil.errors import DataError
from instil.files import cache_root, home_path, write_text_atomic
from instil.preparation.chunks import Input
from instil.preparation.store import VERSION
from instil.recipe import Recipe, reading_of
from instil.refused_writes import refused_writes
from instil.remote.ranged_files import RemoteFile
from instil.screen import work

_MAX_HASHES = 10_000
_NOT_IN_KEY = {
    "workers",
    "cluster",
    "store",
    "sources",
    "heldout",
    "format",
    "columns",
    "encoding",
    "delimiter",
    "sheet",
}
"""Settings that change no store, or that every source has too."""


def cache_folder(recipe: Recipe) -> Path:
    """Return the folder of all stores: the recipe's, else INSTIL_CACHE, else the user's cache folder."""
    if recipe.data.store:
        return home_path(recipe.data.store)
    return cache_root() / "prepared"


def check_folder(folder: Path) -> None:
    """Check that the folder of all stores can be made and written to. It is made later, with its first file.

    Raises:
        DataError: If not.
    """
    with refused_writes(folder, raises=DataError, found="cannot hold prepared data", otherwise=OTHER_STORE):
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass


def fingerprint_of(
    recipe: Recipe,
    inputs: Sequence[Input],
    *,
    encoder: str,
    watch: Callable[[Path, bytes], None] | None = None,
) -> str:
    """Return the key of the store that a recipe's data makes.

    Args:
        recipe: The recipe. Only the settings that change the store count.
        inputs: Its sources.
        encoder: Fingerprint of template, tokenizer and the encoder's settings.
        watch: Called with each block of a file that is hashed now, in order, and with empty bytes at its end.
    """
    hashes = file_hashes(cache_folder(recipe))
    data = recipe.data.model_dump(mode="json", exclude=_NOT_IN_KEY)
    sources = [
        {
            "settings": source.settings.model_dump(mode="json", exclude={"path"}),
            "heldout": source.heldout,
            "content": [[name, hashes.of(path, watch=watch)] for path, name in source.files] or _hub_version(source),
        }
        for source in inputs
    ]
    drawn = recipe.training.seed if any(source.settings.rows for source in inputs) else None
    key = {"version": VERSION, "data": data, "sources": sources, "encoder": encoder, "seed": drawn}
    return fingerprint(key | {"reading": reading_of(recipe.training.objective)})


def fingerprint(value: Mapping[str, Any]) -> str:
    """Return 32 hexadecimal digits that identify a JSON value; the order of keys does not matter.

    Example:
        >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _hub_version(source: Input) -> list[str]:
    """Return the name of a Hub data set and its commit; the commit is ``None`` where the Hub cannot be reached."""
    name = source.settings.path.removeprefix("hf://").removeprefix("datasets/")
    try:
        from huggingface_hub import HfApi

        commit = HfApi().dataset_info(name, revision=source.settings.revision, timeout=10).sha
    except Exception:  # offline: reading uses the local cache of `datasets`, or reports the error
        commit = None
    return [name, str(commit)]


_HASHED_AT_ONCE = 1 << 20


class FileHashes:
    """Saved content hashes of files, valid while size, modification time and inode stay; get it from `file_hashes`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._known: dict[str, list[Any]] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._known = {}
        self._changed = False

    def of(self, path: SourceFile, *, watch: Callable[[Path, bytes], None] | None = None) -> str:
        """Return the hash of a file's bytes; of a remote file its version and size, as the server says them.

        Args:
            path: The file.
            watch: As for `fingerprint_of`. It is not called if the hash is known.
        """
        if isinstance(path, RemoteFile):
            return path.fingerprint
        stat = path.stat()
        key, state = str(path.resolve()), [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = self._known.get(key)
        if known is not None and known[:3] == state:
            return str(known[3])
        content = hashlib.blake2b()
        with path.open("rb") as stream, work(f"hashing {path.name}", total=stat.st_size or None, unit="bytes") as bar:
            while block := stream.read(_HASHED_AT_ONCE):
                content.update(block)
                if watch is not None:
                    watch(path, block)
                bar.advance(len(block))
        if watch is not None:
            watch(path, b"")
        digest = content.hexdigest()[:40]
        self._known[key] = [*state, digest]
        self._changed = True
        return digest

    def save(self) -> None:
        """Save new hashes; the newest are kept. A full disk is ignored, because they can be computed again."""
        if self._changed or not self._path.exists():
            with suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_text_atomic(self._path, json.dumps(dict(list(self._known.items())[-_MAX_HASHES:])))
            self._changed = False


@cache
def file_hashes(folder: Path) -> FileHashes:
    """Return the hashes saved in a folder of stores, the same object for every call.

    They are saved once a store exists, and not before, because a failed preparation leaves nothing behind.
    """
    return FileHashes(folder / "file-hashes.json")
