"""The results of single chunks as files: written by whoever encodes a chunk, merged in order by the one that asked.

A shard is one Arrow file: the packed examples, and the account of the rows in the metadata of its schema. It gets its
name when it is on the disk, so a shard that is there is whole, and need not be made again.

Why: the account is JSON and not a pickle, because whoever opens a shared folder may not trust all who write to it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from instil import __version__
from instil.conversation import Place
from instil.errors import DataError
from instil.file_use import FileUse
from instil.files import ASIDE, make_folder, remove_empty, sync_folder, sync_path, write_text_atomic
from instil.preparation.chunks import CHUNK_BYTES, CHUNK_ROWS, Chunk
from instil.preparation.encode_rows import EncodedChunk, Failure
from instil.preparation.store import EXAMPLES, SCHEMA

APPEARS_WITHIN = 60.0
"""Seconds within which a shard must appear here. NFS may remember for that long that a file was missing.

Source: acdirmax, nfs(5).
"""
_POLL_SECONDS = 0.1
_PLAN = "plan.json"
_ACCOUNT = b"account"
_ARRAYS = {
    "hashes": np.uint64,
    "num_conversations": np.int32,
    "conversation_tokens": np.int64,
    "example_rows": np.int32,
    "trained_tokens": np.int32,
}


class Shards:
    """The folder of the shards of one store, beside the store. One process at a time fills it.

    Its name is that of a killed writer's remains, so `instil stores` lists and removes it as such. Its lock is a file of
    the name that examples have in a store, which is where `instil stores` looks for a user.
    """

    def __init__(self, store: Path, *, inputs: str) -> None:
        """Open or make the folder. Shards that a killed process left there stay if they are of the same inputs.

        Args:
            store: The store's folder.
            inputs: Digest of what decides the shards besides the store's key.

        Raises:
            DataError: If another process fills the folder.
        """
        self.folder = store.with_name(f"{ASIDE}{store.name}-shards").absolute()
        self._made = [path for path in make_folder(self.folder) if path != self.folder]
        lock = self.folder / EXAMPLES
        lock.touch()
        try:
            self._use = FileUse(lock, alone=True)
        except BlockingIOError:
            raise DataError(
                f"{self.folder}: another process prepares the same data. Expected one at a time. "
                "Wait for it; the store is then opened."
            ) from None
        plan = {"instil": __version__, "rows": CHUNK_ROWS, "bytes": CHUNK_BYTES, "inputs": inputs}
        if _read_plan(self.folder / _PLAN) != plan:
            for path in self.folder.glob("*.arrow"):
                if path != lock:
                    path.unlink()
            write_text_atomic(self.folder / _PLAN, json.dumps(plan))
        self.num_found = sum(1 for path in self.folder.glob("*.arrow") if path != lock)

    def path(self, number: int) -> Path:
        """Return the file of a chunk."""
        return self.folder / f"{number:09d}.arrow"

    def read(self, number: int) -> EncodedChunk | None:
        """Return the result of a chunk; None if its file is damaged.

        Raises:
            DataError: If the file does not appear here.
        """
        path = self.path(number)
        until = time.monotonic() + APPEARS_WITHIN
        while not path.exists():
            if time.monotonic() > until:
                raise DataError(
                    f"{path}: written by a node of the cluster, but not seen here. Expected one folder for all nodes. "
                    "Set data.store to a folder on a disk that all nodes share."
                )
            time.sleep(_POLL_SECONDS)
        return read_shard(path)

    def remove(self) -> None:
        """Remove all shards."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let another process fill the folder. One without any shard is removed."""
        if not any(path.name != EXAMPLES for path in self.folder.glob("*.arrow")):
            shutil.rmtree(self.folder, ignore_errors=True)
            remove_empty(self._made)
        self._use.end()


def _read_plan(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_shard(path: Path, encoded: EncodedChunk) -> None:
    """Write the result of a chunk. The file is whole, or it is not there.

    Raises:
        OSError: If the disk refuses.
    """
    aside = path.with_name(f"{ASIDE}{path.name}-{secrets.token_hex(8)}")  # process ids repeat on other machines
    schema = SCHEMA.with_metadata({_ACCOUNT: json.dumps(_account_of(encoded), default=str).encode()})
    try:
        with pa.OSFile(str(aside), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            writer.write_batch(encoded.batch.replace_schema_metadata(schema.metadata))
        sync_path(aside)
        os.replace(aside, path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to report
            aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read_shard(path: Path) -> EncodedChunk | None:
    """Return the result of a chunk, or None if the file is damaged."""
    try:
        with pa.OSFile(str(path), "rb") as source, pa.ipc.open_file(source) as file:
            account = json.loads(file.schema.metadata[_ACCOUNT])
            batch = file.get_batch(0).replace_schema_metadata(None)
    except (pa.ArrowInvalid, OSError, ValueError, KeyError, TypeError):
        return None
    return _encoded_of(account, batch)


def _account_of(encoded: EncodedChunk) -> dict[str, Any]:
    """Return everything of a result but its examples, as JSON values."""
    places = encoded.chunk.places
    files = list(dict.fromkeys(place.source for place in places))
    number_of = {name: number for number, name in enumerate(files)}
    account: dict[str, Any] = {
        "source": encoded.chunk.source,
        "files": files,
        "places": [[number_of[place.source], place.row, place.part, place.line] for place in places],
        "failures": [[failure.row, failure.reason, failure.message] for failure in encoded.failures],
    }
    for field in dataclasses.fields(encoded):
        if field.name in _ARRAYS:
            account[field.name] = getattr(encoded, field.name).tolist()
        elif field.name not in ("chunk", "batch", "failures"):
            account[field.name] = getattr(encoded, field.name)
    return account


def _encoded_of(account: dict[str, Any], batch: pa.RecordBatch) -> EncodedChunk:
    files = account.pop("files")
    places = tuple(Place(files[file], row, part, line) for file, row, part, line in account.pop("places"))
    arrays = {name: np.array(account.pop(name), dtype=kind) for name, kind in _ARRAYS.items()}
    return EncodedChunk(
        chunk=Chunk(account["source"], places, ()),
        batch=batch,
        **arrays,
        formats=tuple(account["formats"]),
        failures=tuple(Failure(*failure) for failure in account["failures"]),
        inline_reasoning=tuple(account["inline_reasoning"]),
        part_weights=tuple(account["part_weights"]),
        rendered=tuple((row, template) for row, template in account["rendered"]),
        misspelt=tuple((row, key, meant) for row, key, meant in account["misspelt"]),
        dropped_text=tuple((row, tuple(texts)) for row, texts in account["dropped_text"]),
        candidates=tuple((row, conversations) for row, conversations in account["candidates"]),
        report=account["report"],
    )
