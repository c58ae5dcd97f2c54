"""A run folder in a bucket: what is in it, and copying to it and back.

It has the names of the run folder. A checkpoint's manifest is written last and removed first, so a checkpoint with a
manifest is whole whenever a copy is cut off. Its checksums are compared when it is read back.

Why: names in a bucket are anybody's text. Those that would lead out of the run folder are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from instil.errors import CheckpointError
from instil.files import aside_of, put_in_place, remove_folder
from instil.remote.storage import Storage, Stored, storage_of
from instil.remote.urls import joined_url
from instil.training.checkpoints.checkpoint import MANIFEST, Checkpoint, open_checkpoint, step_folder
from instil.training.checkpoints.retention import STEP, kept_steps, step_of

CHECKPOINTS, RECIPE, RESULTS = "checkpoints", "recipe.yaml", "results.json"
"""Names in a run folder. Its other names do not matter to a copy."""
MODELS = ("model", "adapter")
"""Folders that the end of a run writes."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a mirrored run.

    Attributes:
        files: Every file, by its path in the run folder.
    """

    files: Mapping[str, Stored]

    @property
    def is_run(self) -> bool:
        """Whether a run has been copied there."""
        return RECIPE in self.files

    @property
    def is_finished(self) -> bool:
        """Whether that run is finished."""
        return RESULTS in self.files

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints that are whole, oldest first."""
        folders = {Path(name).parent for name in self.files if name.endswith(f"/{MANIFEST}")}
        return sorted({step_of(folder) for folder in folders if STEP.fullmatch(folder.name)})

    @property
    def record_names(self) -> list[str]:
        """Names of the files beside the checkpoints; of a finished run, its model too. The recipe comes last."""
        names = [name for name in self.files if "/" not in name and name != RECIPE]
        if self.is_finished:
            names += [name for name in self.files if name.partition("/")[0] in MODELS and "/" in name]
        return [*sorted(names), RECIPE]


@dataclass(frozen=True, slots=True)
class MirroredRun:
    """A run folder in a bucket. Every method raises `StorageError` if the bucket refuses.

    Attributes:
        url: Its address.
    """

    url: str

    @property
    def _storage(self) -> Storage:
        return storage_of(self.url)

    def contents(self) -> Contents:
        """Return what is there."""
        start = self.url.rstrip("/") + "/"
        names = {file.url.removeprefix(start): file for file in self._storage.below(self.url)}
        return Contents({name: file for name, file in names.items() if _is_inside(name)})

    def check_writable(self) -> None:
        """Write a small file and remove it."""
        probe = joined_url(self.url, ".tmp-probe")
        self._storage.write(probe, b"written and removed before a run starts\n")
        self._storage.remove([probe])

    def read(self, name: str) -> bytes:
        """Return the bytes of a file of the run."""
        return self._storage.read(joined_url(self.url, name))

    def put(self, path: Path, name: str) -> None:
        """Copy a file to a name in the run."""
        self._storage.upload(path, joined_url(self.url, name))

    def put_checkpoint(self, folder: Path, *, before_manifest: Callable[[], None]) -> None:
        """Copy a checkpoint, its manifest last.

        Args:
            folder: The checkpoint.
            before_manifest: Copies what a run needs that is resumed from it.
        """
        target = joined_url(self.url, f"{CHECKPOINTS}/{folder.name}")
        manifest = (folder / MANIFEST).read_bytes()
        there = self._storage.state(joined_url(target, MANIFEST))
        before = b"" if there is None else self._storage.read(joined_url(target, MANIFEST))
        if before == manifest:
            before_manifest()
            return
        # From here on this step is not whole. A run saves a step twice only if its bytes have changed.
        self._storage.remove([joined_url(target, MANIFEST)] if there is not None else [])
        checksums, known = _checksums(manifest), _checksums(before)
        for name in sorted(checksums):
            if checksums[name] != known.get(name):
                self._storage.upload(folder / name, joined_url(target, name))
        before_manifest()
        self._storage.write(joined_url(target, MANIFEST), manifest)

    def prune(self, *, newest: int, keep_last: int, keep_step: int | None) -> None:
        """Remove all checkpoints that `prune_checkpoints` would, and what killed copies have left."""
        contents = self.contents()
        kept = kept_steps(contents.steps, newest=newest, keep_last=keep_last, keep_step=keep_step)
        names = [name for name in contents.files if name.startswith(f"{CHECKPOINTS}/")]
        # A copy that the user made under another name is left alone, as on the disk.
        gone = [name for name in names if _step_of(name) not in {*kept, None}]
        # The manifests first: a removal that is cut off leaves nothing that looks whole.
        gone.sort(key=lambda name: not name.endswith(MANIFEST))
        self._storage.remove(joined_url(self.url, name) for name in gone)

    def identity(self, step: int) -> Any:
        """Return what has to be equal when the run is resumed, as the checkpoint of a step has it."""
        state = self._storage.read(joined_url(self.url, f"{CHECKPOINTS}/{step_folder(Path(), step).name}/state.json"))
        return json.loads(state).get("identity")

    def fetch_checkpoint(self, step: int, checkpoints: Path, *, contents: Contents) -> Checkpoint:
        """Copy a checkpoint back, whole or not at all.

        Raises:
            CheckpointError: If its bytes are not those that were saved.
        """
        folder = step_folder(checkpoints, step)
        aside = aside_of(folder, shared=True)
        remove_folder(aside)
        aside.mkdir(parents=True)
        start = f"{CHECKPOINTS}/{folder.name}/"
        try:
            for name, file in contents.files.items():
                if name.startswith(start) and "/" not in name.removeprefix(start):
                    self._storage.download(file.url, aside / name.removeprefix(start))
            open_checkpoint(aside)
            put_in_place(aside, folder, replace=True)
        except CheckpointError as error:
            raise CheckpointError(str(error).replace(str(aside), joined_url(self.url, start.rstrip("/")))) from None
        finally:
            if aside.exists():
                remove_folder(aside)
        return open_checkpoint(folder)

    def fetch_file(self, name: str, folder: Path) -> None:
        """Copy a file of the run back, whole or not at all."""
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = aside_of(path)
        try:
            self._storage.download(joined_url(self.url, name), aside)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def _is_inside(name: str) -> bool:
    """Return whether a name stays in the run folder and is no hidden file.

    Example:
        >>> [name for name in ("model/a.json", "../a", "/a", "model/../../a", ".lock") if _is_inside(name)]
        ['model/a.json']
    """
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and not any(part.startswith(".") for part in path.parts)


def _step_of(name: str) -> int | None:
    folder = Path(name.split("/")[1])
    return step_of(folder) if STEP.fullmatch(folder.name) else None


def _checksums(manifest: bytes) -> dict[str, str]:
    try:
        checksums: dict[str, str] = json.loads(manifest)["sha256"]
    except (ValueError, KeyError, TypeError):  # none yet, or of another version
        return {}
    return checksums
