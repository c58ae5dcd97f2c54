"""The workspace: a folder, and what lies in it, told from names and times alone.

Why cheap: every page lists something of it, also where a file has a million rows or there are 500 runs. No function here
reads a file as a whole. `inside` is the only way from a path of a request to a path on the disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from instil.data.sources.files import container_of
from instil.data.sources.hub import looks_like_hub_id
from instil.errors import ServeError
from instil.files import ASIDE, LONGEST_NAME, OLD, lock_holder
from instil.training.records.run_folder import RunPaths, is_run

OWN = ".instil-studio"
"""Folder of the studio's own files in a workspace: the queue, and the logs of its jobs."""
MOST_DEEP = 5
"""Folders below the workspace in which something is looked for."""
MOST_ENTRIES = 20_000
"""Names that one listing looks at, so that a page does not wait for a folder of pictures."""
STORE_FILES = ("store.json", "examples.arrow")
"""Names in a prepared store, as `preparation.store` has them.

Why again: importing that module loads pyarrow and numpy, 40 MB; a test holds both equal.
"""
RunState = Literal["finished", "running", "not finished"]


class OutsideError(Exception):
    """A path of a request that leads out of the workspace, or nowhere."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder of the workspace.

    Attributes:
        path: Its path below the workspace, with ``/``; what links and forms of a page contain.
        changed: When it was last written.
        size: Bytes of a file; of a folder 0.
    """

    path: str
    changed: datetime
    size: int = 0


@dataclass(frozen=True, slots=True)
class RunEntry(Entry):
    """A run folder.

    Attributes:
        state: Whether it is finished, running or neither; a process that died holds no lock.
    """

    state: RunState = "not finished"


@dataclass(frozen=True, slots=True)
class Contents:
    """What lies in a workspace, each list with the newest first.

    Attributes:
        runs: Run folders.
        data: Files that can be read as rows.
        recipes: YAML files outside of runs.
        stores: Prepared stores.
        is_whole: False if the workspace has more names than are looked at.
    """

    runs: tuple[RunEntry, ...]
    data: tuple[Entry, ...]
    recipes: tuple[Entry, ...]
    stores: tuple[Entry, ...]
    is_whole: bool


def open_workspace(folder: Path) -> Path:
    """Return the workspace's resolved folder, with the studio's own folder in it.

    Raises:
        ServeError: If there is no such folder, or nothing can be written there.
    """
    if not folder.is_dir():
        raise ServeError(
            f"{folder}: no such folder. Expected a folder for data, recipes and runs. Make it with mkdir, or name another."
        )
    root = folder.resolve()
    try:
        (root / OWN).mkdir(mode=0o700, exist_ok=True)
        (root / OWN / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise ServeError(
            f"{folder}: cannot be written to ({error.strerror or error}). Expected a folder of your own. Name another."
        ) from None
    return root


def inside(root: Path, path: str) -> Path:
    """Return the file or folder that a path of a request means, links resolved.

    Args:
        root: The workspace as `open_workspace` returns it.
        path: A path below it, as `Entry.path` has it. It need not exist.

    Raises:
        OutsideError: If it is absolute, leads out of the workspace (also over a link), into the studio's own folder, or
            can be no path.

    Example:
        >>> inside(Path("/w"), "../etc/passwd")
        Traceback (most recent call last):
        instil.studio.workspace.OutsideError: ../etc/passwd
    """
    try:
        names = os.fsencode(path).split(b"/")
        if not path or "\0" in path or path.startswith(("/", "~")) or max(map(len, names)) > LONGEST_NAME:
            raise OutsideError(path)
        found = (root / path).resolve()
        relative = found.relative_to(root)
    except (ValueError, OSError, RuntimeError):  # elsewhere; half a character; a loop of links
        raise OutsideError(path) from None
    if relative.parts[:1] == (OWN,):
        raise OutsideError(path)
    return found


def leads_out(root: Path, folder: Path) -> bool:
    """Return whether a link in a folder, however deep, leads out of the workspace or into the studio's own folder.

    Args:
        root: The workspace as `open_workspace` returns it.
        folder: A folder below it.
    """
    waiting = [os.fspath(folder)]
    while waiting:
        with contextlib.suppress(FileNotFoundError), os.scandir(waiting.pop()) as items:  # removed meanwhile
            for item in items:
                if item.is_symlink():
                    try:
                        inside(root, os.path.relpath(item.path, root))
                    except OutsideError:
                        return True
                elif item.is_dir():
                    waiting.append(item.path)
    return False


def is_hub_name(root: Path, name: str) -> bool:
    """Return whether a name is a Hub id, ``owner/name``, and nothing of the workspace.

    Why the first part counts: in a folder that is there, a file that is missing is a mistake and no Hub id.
    """
    return (
        not name.startswith("hf://")
        and looks_like_hub_id(name)
        and container_of(name) is None
        and not (root / name).exists()
        and not (root / name.partition("/")[0]).is_dir()
    )


def free_path(root: Path, wanted: str, *, suffix: str = "") -> str:
    """Return a path below a workspace that nothing has yet: ``runs/a``, else ``runs/a-2`` and so on.

    Args:
        root: The workspace.
        wanted: The path, without its suffix.
        suffix: What stands behind the number, such as ``.jsonl``.
    """
    number, found = 1, wanted + suffix
    while (root / found).exists():
        number += 1
        found = f"{wanted}-{number}{suffix}"
    return found


def contents(root: Path) -> Contents:
    """Return what lies in a workspace, from one walk over its names."""
    runs: list[RunEntry] = []
    data: list[Entry] = []
    recipes: list[Entry] = []
    stores: list[Entry] = []
    number = 0
    for number, (path, kind) in enumerate(_walk(root, MOST_DEEP), start=1):
        if number > MOST_ENTRIES:
            break
        with contextlib.suppress(OSError):  # removed meanwhile
            if kind == "run":
                runs.append(run_entry(root, path))
            elif kind == "store":
                stores.append(_entry(root, path))
            elif path.suffix in (".yaml", ".yml"):
                recipes.append(_entry(root, path))
            elif container_of(path.name) is not None:
                data.append(_entry(root, path))
    return Contents(
        tuple(sorted(runs, key=_newest)),
        tuple(sorted(data, key=_newest)),
        tuple(sorted(recipes, key=_newest)),
        tuple(sorted(stores, key=_newest)),
        number <= MOST_ENTRIES,
    )


def run_entry(root: Path, folder: Path) -> RunEntry:
    """Return a run folder as an entry.

    Raises:
        OSError: If it is not there.
    """
    paths = RunPaths(folder)
    state: RunState = "not finished"
    if paths.results.exists():
        state = "finished"
    elif lock_holder(folder) is not None:
        state = "running"
    newest = next((path for path in (paths.results, paths.metrics, paths.environment) if path.exists()), folder)
    return RunEntry(_below(root, folder), _time(newest), state=state)


def _walk(folder: Path, deep: int) -> Iterator[tuple[Path, Literal["run", "store", "file"]]]:
    """Yield runs, stores and files; what lies in a run, a store or a model is its own."""
    with contextlib.suppress(OSError):
        for item in sorted(os.scandir(folder), key=lambda item: item.name):
            if item.name.startswith((".", ASIDE, OLD)) or item.is_symlink():
                continue
            path = Path(item.path)
            if not item.is_dir():
                yield path, "file"
            elif is_run(path):
                yield path, "run"
            elif all((path / name).exists() for name in STORE_FILES):
                yield path, "store"
            elif deep and not _is_model(path):
                yield from _walk(path, deep - 1)


def _is_model(folder: Path) -> bool:
    """Return whether a folder is a model or an export, whose JSON files are no data."""
    names = ("adapter_config.json", "parity.json", "tokenizer_config.json", "model.safetensors.index.json")
    return any((folder / name).exists() for name in names)


def _entry(root: Path, path: Path) -> Entry:
    return Entry(_below(root, path), _time(path), path.stat().st_size if path.is_file() else 0)


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _time(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime).astimezone()


def _newest(entry: Entry) -> tuple[float, str]:
    return -entry.changed.timestamp(), entry.path
