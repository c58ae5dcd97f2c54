"""Prepared stores on the disk: found, described, and removed unless somebody uses or needs them.

Why: a removed store costs time only, because the next preparation makes it again. So a run that is not finished keeps
its store, and everything else can go.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from instil.errors import InstilError
from instil.file_use import unused
from instil.files import ASIDE, GONE, OLD, cache_root, home_path, is_running, remove_folder, size_on_disk, sweep_dead
from instil.preparation.store import EXAMPLES, LEDGER, STORE, VERSION
from instil.reporting.runs import find_runs
from instil.training.records.run_folder import RunPaths, read_run_json
from instil.training.records.run_settings import settings_of
from instil.views.visible import shortened

State = Literal["", "in use", "needed", "left over", "old version", "damaged"]
_UNUSABLE: tuple[State, ...] = ("left over", "old version", "damaged")
_LONGEST_NAME = 22
_KEY = re.compile(r"[0-9a-f]{32}")
_OF_A_STORE = frozenset({EXAMPLES, STORE, LEDGER, "train.npy", "heldout.npy", "heldout.jsonl"})


@dataclass(frozen=True, slots=True)
class Stored:
    """A store, or what an interrupted preparation left.

    Attributes:
        folder: Its folder.
        key: Its key.
        data: Its data in words.
        rows: Rows of its training data, or None if that cannot be read.
        size: Its bytes.
        used: When it was last opened or written, in seconds since 1970.
        state: ``in use`` by a process; ``needed`` by a run that is not finished; ``left over`` by a process that was
            killed; ``old version``, which nothing opens any more; ``damaged``; or empty.
        run: The run that needs it.
    """

    folder: Path
    key: str
    data: str
    rows: int | None
    size: int
    used: float
    state: State = ""
    run: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the store as JSON values."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return values | {"folder": str(self.folder), "state": self.state or "unused"}


@dataclass(frozen=True, slots=True)
class Choice:
    """Which stores to remove.

    Attributes:
        older: Only those not used for this many seconds.
        larger: Only those of at least this many bytes.
        keep: Keep the stores that were used last, up to this many bytes.
        unusable: Only those that nothing can open: left over, damaged, or of an old version.
        needed: Also those that a run that is not finished needs.
    """

    older: float | None = None
    larger: int | None = None
    keep: int | None = None
    unusable: bool = False
    needed: bool = False


def store_folders(more: Iterable[Path], runs: Iterable[Path]) -> list[Path]:
    """Return the folders of stores: the cache, those of the runs' `data.store`, and others, each once."""
    folders = [cache_root() / "prepared", *more]
    for run in runs:
        with contextlib.suppress(InstilError):  # a damaged run names no folder
            if store := settings_of(run).get("data.store"):
                folders.append(home_path(str(store)))
    found: dict[Path, Path] = {}
    for folder in folders:
        found.setdefault(folder.resolve(), folder)
    return [folder for folder in found.values() if folder.is_dir()]


def runs_in(folders: Iterable[Path]) -> list[Path]:
    """Return the run folders in folders that exist."""
    return [run for folder in folders if folder.is_dir() for run in find_runs(folder)]


def needed_by(runs: Iterable[Path]) -> dict[str, str]:
    """Return the key of the store of each run that is not finished, and the run."""
    needed = {}
    for run in runs:
        paths = RunPaths(run)
        with contextlib.suppress(InstilError):
            if not paths.results.exists():
                prints = read_run_json(paths.environment).get("fingerprints")
                if isinstance(prints, Mapping) and prints.get("data"):
                    needed[str(prints["data"])] = str(run)
    return needed


def stored_in(folders: Sequence[Path], *, needed: Mapping[str, str]) -> list[Stored]:
    """Return the stores in folders, and what killed preparations left there, the longest unused first.

    Only folders whose names are those of stores count; all others are left alone.
    """
    found = []
    for folder in folders:
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink() and (key := _key_of(path)):
                found.append(_described(path, key, needed))
    return sorted(found, key=lambda stored: (stored.used, str(stored.folder)))


def _key_of(path: Path) -> str:
    """Return the key in the name of a store, or of what an interrupted writer of one left; else nothing."""
    name = path.name
    for prefix in (GONE, ASIDE, OLD):
        if name.startswith(prefix):
            name = name.removeprefix(prefix).rpartition("-")[0]
            break
    else:
        names = {inside.name for inside in path.iterdir()} if _KEY.fullmatch(name) else set()
        return name if _KEY.fullmatch(name) and (names & _OF_A_STORE or not names) else ""
    return name if _KEY.fullmatch(name) else ""


def _described(path: Path, key: str, needed: Mapping[str, str]) -> Stored:
    is_whole = path.name == key
    header, ledger = _json(path / STORE), _json(path / LEDGER).get("train")
    ledger = ledger if isinstance(ledger, Mapping) else {}
    rows = ledger.get("rows_in")
    stored = Stored(
        path,
        key,
        _data_words(ledger.get("evidence")),
        rows if isinstance(rows, int) else None,
        size_on_disk(path),
        _last_used(path),
    )
    with unused(path / EXAMPLES) as is_unused:
        if not is_unused or (not is_whole and _writer_lives(path)):
            return replace(stored, state="in use")
    if not is_whole:
        return replace(stored, state="left over")
    if not header or not ledger:
        return replace(stored, state="damaged")
    if header.get("version") != VERSION:
        return replace(stored, state="old version")
    return replace(stored, state="needed", run=needed[key]) if key in needed else stored


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _data_words(evidence: Any) -> str:
    """Return the name of a store's first file, and how many more there are: what stands before the format.

    Example:
        >>> _data_words(["data/a.jsonl: messages (column messages …)", "b.csv: alpaca (…)"])
        'a.jsonl +1'
    """
    lines = [str(line) for line in evidence] if isinstance(evidence, list) else []
    names = [os.path.basename(line.partition(": ")[0].rstrip("/")) for line in lines]
    return shortened(names[0], _LONGEST_NAME) + (f" +{len(names) - 1}" if len(names) > 1 else "") if names else ""


def _last_used(path: Path) -> float:
    times = []
    for file in (path, path / STORE, path / EXAMPLES):
        with contextlib.suppress(OSError):
            times.append(file.stat().st_mtime)
    return max(times, default=time.time())


def _writer_lives(path: Path) -> bool:
    """Return True if the process in a temporary name runs. Versions before the lock have only the name."""
    process = path.name.rpartition("-")[2]
    return process.isdecimal() and is_running(int(process))


def chosen(stores: Sequence[Stored], choice: Choice) -> list[Stored]:
    """Return the stores that a choice names and that may be removed.

    A store in use is never among them; one that is needed only if the choice says so.
    """
    now = time.time()
    kept: set[Path] = set()
    if choice.keep is not None:
        room = choice.keep
        for stored in sorted(stores, key=lambda stored: -stored.used):
            if stored.state in _UNUSABLE:
                continue
            room -= stored.size
            if room < 0:
                break
            kept.add(stored.folder)
    return [
        stored
        for stored in stores
        if stored.state != "in use"
        and (stored.state != "needed" or choice.needed)
        and (stored.state in _UNUSABLE or not choice.unusable)
        and stored.folder not in kept
        and (choice.older is None or now - stored.used >= choice.older)
        and (choice.larger is None or stored.size >= choice.larger)
    ]


def remove(stores: Sequence[Stored]) -> tuple[list[Stored], list[tuple[Stored, str]]]:
    """Remove stores, each only if nobody uses it at this moment.

    Returns:
        Those that are gone, and those that are not, with the reason.
    """
    gone, kept = [], []
    for stored in stores:
        with unused(stored.folder / EXAMPLES) as is_unused:
            if not is_unused:
                kept.append((stored, "in use since a moment ago"))
                continue
            try:
                _remove_one(stored)
            except OSError as error:
                kept.append((stored, f"cannot be removed ({error.strerror})"))
            else:
                gone.append(stored)
    return gone, kept


def _remove_one(stored: Stored) -> None:
    if stored.folder.name == stored.key:
        remove_folder(stored.folder)
    elif stored.folder.name.startswith(OLD):
        sweep_dead(stored.folder.with_name(stored.key))  # puts it back if it is the only copy
    else:
        shutil.rmtree(stored.folder)
