"""The key of a store: a fingerprint of data, template, tokenizer and settings, the same in every process.

Files are hashed by content; the hash of a file that has not changed (size, time of change, inode) is remembered beside
the stores, so that asking again costs nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from instil.errors import DataError
from instil.files import write_text_atomic
from instil.preparation.chunks import Input
from instil.preparation.store import VERSION
from instil.recipe import Recipe

_REMEMBERED = 10_000


def cache_folder(recipe: Recipe) -> Path:
    """Give the folder that holds stores: the recipe's, else INSTIL_CACHE, else the user's cache folder."""
    if recipe.data.store:
        return Path(recipe.data.store).expanduser()
    given = os.environ.get("INSTIL_CACHE")
    if given:
        return Path(given).expanduser() / "prepared"
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "instil" / "prepared"


def check_folder(folder: Path) -> None:
    """Check that the folder that holds stores can be made and written to; it is made with the first file in it.

    Raises:
        DataError: If not.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise DataError(
            f"{folder}: cannot hold prepared data ({error.strerror or error}); expected a folder to write to; "
            "set data.store, or INSTIL_CACHE, to one"
        ) from None


def fingerprint_of(recipe: Recipe, inputs: Sequence[Input], *, encoder: str) -> str:
    """Give the key of the store that a recipe's data makes.

    Args:
        recipe: The recipe; of its settings only those that the store depends on count.
        inputs: Its sources, found.
        encoder: Fingerprint of template, tokenizer and the encoder's settings.
    """
    hashes = file_hashes(cache_folder(recipe))
    data = recipe.data.model_dump(mode="json", exclude={"workers", "store", "sources", "heldout", "format", "columns"})
    sources = [
        {
            "settings": found.settings.model_dump(mode="json", exclude={"path"}),
            "heldout": found.heldout,
            "content": [[name, hashes.of(path)] for path, name in found.files] or _hub_version(found),
        }
        for found in inputs
    ]
    drawn = recipe.training.seed if any(found.settings.rows for found in inputs) else None
    return fingerprint({"version": VERSION, "data": data, "sources": sources, "encoder": encoder, "seed": drawn})


def fingerprint(value: Mapping[str, Any]) -> str:
    """Give 32 hexadecimal digits of a JSON value, whatever the order of its keys.

    Example:
        >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _hub_version(found: Input) -> list[str]:
    """Name a Hub data set and, where the Hub can be asked, its commit."""
    name = found.settings.path.removeprefix("hf://").removeprefix("datasets/")
    try:
        from huggingface_hub import HfApi

        commit = HfApi().dataset_info(name, revision=found.settings.revision, timeout=10).sha
    except Exception:  # offline: reading will say what is wrong, or serve what `datasets` has cached
        commit = None
    return [name, str(commit)]


class FileHashes:
    """Content hashes of files, remembered by size, time of change and inode; use through `file_hashes`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._known: dict[str, list[Any]] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._known = {}
        self._changed = False

    def of(self, path: Path) -> str:
        """Give the hash of a file's bytes."""
        stat = path.stat()
        key, state = str(path.resolve()), [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = self._known.get(key)
        if known is not None and known[:3] == state:
            return str(known[3])
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "blake2b").hexdigest()[:40]
        self._known[key] = [*state, digest]
        self._changed = True
        return digest

    def save(self) -> None:
        """Write what is known, if anything is new; the newest entries are kept."""
        if self._changed or not self._path.exists():
            write_memory(self._path, dict(list(self._known.items())[-_REMEMBERED:]))
            self._changed = False


@cache
def file_hashes(folder: Path) -> FileHashes:
    """Give the hashes that are remembered in a folder of stores, the same object each time.

    They are written when something came of the files and not before, for what is refused leaves nothing behind; until then this process remembers them.
    """
    return FileHashes(folder / "file-hashes.json")


def write_memory(path: Path, known: Mapping[str, Any]) -> None:
    """Write what need not be computed again; on a full disk it is computed again."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomic(path, json.dumps(known))
