"""Write a store of prepared examples under a temporary name, then rename it.

Why: the temporary folder is made with the first write. Of several processes that prepare together, only the one that
writes makes a folder.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from instil.data.memory_rows import OTHER_STORE
from instil.errors import DataError
from instil.file_use import FileUse
from instil.files import aside_of, make_folder, put_in_place, remove_empty, sweep_dead
from instil.preparation.ledger import Ledger
from instil.preparation.store import EXAMPLES, LEDGER, SCHEMA, STORE, VERSION, Split
from instil.refused_writes import refused_writes


class StoreWriter:
    """Writes a store under a temporary name and renames it at the end, so a folder of its name is always complete.

    Use it as a context manager. Without `finish`, or after an error, nothing is left behind, even if the disk is full.
    """

    def __init__(self, folder: str | Path, *, fingerprint: str, replace: bool = False) -> None:
        """Prepare to write `folder`.

        Args:
            folder: The store's folder.
            fingerprint: The store's key.
            replace: Whether to replace an existing store when the new one is complete.
        """
        self.folder = Path(folder)
        self.fingerprint = fingerprint
        self._replace = replace
        self.aside = aside_of(self.folder)
        self.num_examples = 0
        self._sink: pa.OSFile | None = None
        self._use = FileUse()  # kept after `finish`, so that nobody removes the store before it is opened
        self._made: list[Path] = []

    def __enter__(self) -> StoreWriter:
        return self

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a record batch of `SCHEMA`.

        Raises:
            DataError: If the disk is full, or the folder cannot be written to.
        """
        if not batch.num_rows:
            return
        with self._on_disk():
            self._opened().write_batch(batch)
        self.num_examples += batch.num_rows

    def finish(
        self,
        *,
        train: npt.NDArray[np.int64],
        heldout: npt.NDArray[np.int64],
        ledgers: Mapping[Split, Ledger],
        heldout_rows: Sequence[Mapping[str, Any]] = (),
    ) -> Path:
        """Write the indices and the ledgers, put the folder in place, and return it.

        Args:
            train: Indices of the examples to train on, in order, with repetition.
            heldout: Indices of the held-out examples.
            ledgers: The account of each split.
            heldout_rows: Held-out conversations as JSON values, in order.

        Raises:
            DataError: If the disk is full, or the folder cannot be written to.
        """
        with self._on_disk():
            self._finish({"train": train, "heldout": heldout}, ledgers, heldout_rows)
        return self.folder

    def _finish(
        self,
        indices: Mapping[Split, npt.NDArray[np.int64]],
        ledgers: Mapping[Split, Ledger],
        heldout_rows: Sequence[Mapping[str, Any]],
    ) -> None:
        self._opened().close()
        assert self._sink is not None
        self._sink.close()
        for split, index in indices.items():
            np.save(self.aside / f"{split}.npy", np.asarray(index, dtype=np.int64), allow_pickle=False)
        _write_json(self.aside / LEDGER, {split: ledger.to_json() for split, ledger in ledgers.items()})
        lines = "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in heldout_rows)
        (self.aside / "heldout.jsonl").write_text(lines, encoding="utf-8")
        header = {"version": VERSION, "fingerprint": self.fingerprint, "examples": self.num_examples}
        _write_json(self.aside / STORE, header)
        self._use.share()
        damaged = self.folder.exists() and not (self.folder / STORE).exists()
        try:
            put_in_place(self.aside, self.folder, replace=self._replace or damaged)
        except OSError as error:
            # Another process may have finished the same store first. Both hold the same bytes, so its store stays.
            taken = error.errno in (errno.ENOTEMPTY, errno.EEXIST)
            if not (taken and (self.folder / STORE).exists()):
                raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sink is None:
            return
        with suppress(OSError):  # closing writes too, and the first error is the one to report
            if not self._sink.closed:
                self._opened().close()
        with suppress(OSError):
            self._sink.close()
        shutil.rmtree(self.aside, ignore_errors=True)
        remove_empty(self._made)

    def _opened(self) -> pa.RecordBatchFileWriter:
        """Return the open file. The first call makes the folder."""
        if self._sink is None:
            sweep_dead(self.folder)
            shutil.rmtree(self.aside, ignore_errors=True)
            self._made = make_folder(self.folder.parent)
            self.aside.mkdir(parents=True)
            self._sink = pa.OSFile(str(self.aside / EXAMPLES), "wb")
            self._use = FileUse(self.aside / EXAMPLES, alone=True)
            self._file = pa.ipc.new_file(self._sink, SCHEMA)
        return self._file

    def _on_disk(self) -> AbstractContextManager[None]:
        return refused_writes(
            self.folder.parent, raises=DataError, found="prepared data cannot be written", otherwise=OTHER_STORE
        )


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
