"""Write a file or a folder completely or not at all, wait for the disk, lock a folder.

Everything that this package writes and later relies on goes through here: stores, checkpoints, models, reports. A file
or folder is written under a name that begins with ``.tmp-``, flushed to the disk, and renamed into place. So a process
that is killed at any moment leaves the old content or the new one. Whatever else it leaves has such a name, by which a
later run finds and removes it. A folder that replaces another one takes two renames: a process that is killed between
them leaves the old folder under a name that begins with ``.replaced-``, and the next sweep puts it back.

Why: the lock is the kernel's (`flock`) rather than a file that exists or not, because it has to end with its process.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from instil.errors import RunError, closest
from instil.refused_writes import REFUSED

ASIDE = ".tmp-"
"""Prefix of the names of files and folders that are incomplete, or about to be deleted."""
GONE = f"{ASIDE}gone-"
"""Prefix of folders that are about to be deleted."""
OLD = ".replaced-"
"""Prefix of folders that are being replaced: the only copy until the new folder is in place.

Why: it does not begin with ASIDE, so that no incomplete file or folder, whatever its name, is taken for such a copy.
"""
LONGEST_NAME = 255
"""Largest number of bytes of a name on the usual file systems."""
_LONGEST_WHOLE_NAME = LONGEST_NAME - len(OLD) - len("-4194304")
"""Largest number of bytes of a name that temporary names hold whole: a prefix precedes it, a process id follows."""
LOCK = ".lock"
"""Name of the lock file in a run folder."""


def is_file_name(text: str) -> bool:
    """Return whether the file system can hold a text as a name: no zero byte, no half of a surrogate pair."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def home_path(path: str | os.PathLike[str]) -> Path:
    """Return a path with ``~`` or ``~name`` at its start replaced by that home folder. Variables such as $HOME stay.

    Every path of a recipe, an option or the Python API goes through here.

    Raises:
        RunError: If it can be no path, a name in it is too long for any file, or there is no such user, because a folder
            named ``~name`` is never meant.

    Example:
        >>> home_path("~/runs") == Path.home() / "runs", home_path("runs/~x")
        (True, PosixPath('runs/~x'))
    """
    # A run is a path too, and its text as a record is another one.
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str) or not is_file_name(text):
        raise RunError(f"{path!r:.80}: no path. Expected a path as text or a Path. Correct it.")
    _check_names(text)
    if not text.startswith("~"):
        return Path(path)
    expanded = os.path.expanduser(text)
    # Some programs name files so, such as ~$book.xlsx.
    if expanded != text or "/" not in text or os.path.exists(text):
        return Path(expanded)
    raise RunError(
        f"{text}: no home folder of a user {text[1:].split('/')[0]!r}. Expected ~/ or ~name/ of a user. "
        "Fix the path, or write ./ in front of it if it is meant literally."
    )


def nearest_beside(path: Path) -> str:
    """Return `` (did you mean 'runs/a'?)`` for what lies in a path's folder under the closest name, or an empty string."""
    if path.exists():
        return ""
    try:
        beside = {entry.name: entry.stem for entry in path.parent.iterdir()}
    except OSError:
        return ""
    # Equal endings make short names similar: MISSING.jsonl is not a.jsonl.
    close = closest(path.name, beside)
    if close is None or closest(path.stem, [beside[close]]) is None:
        return ""
    return f" (did you mean {str(path.with_name(close))!r}?)"


def _check_names(path: str) -> None:
    """Check that every name in a path can be that of a file.

    Why: Python raises for such a path wherever it only looks whether it exists. A text that was pasted is one.
    """
    longest = max(path.split("/"), key=len)
    if len(os.fsencode(longest)) > LONGEST_NAME:
        raise RunError(
            f"{longest[:60]}…: a name of {len(os.fsencode(longest))} bytes. Expected a path, whose names have at most "
            f"{LONGEST_NAME}. Shorten it, or write the text into a file and name that."
        )


def aside_of(path: Path, *, shared: bool = False) -> Path:
    """Return the name under which this process writes `path` before it is complete.

    Args:
        path: The file or folder to write.
        shared: Whether several processes fill it together. The name then holds no process id, so all of them know it.

    Raises:
        IsADirectoryError: If the path is ``.`` or ``/``, which have no name of their own.

    Example:
        >>> aside_of(Path("checkpoints/step-000004"), shared=True).name
        '.tmp-step-000004'
        >>> aside_of(Path("rows.jsonl")).name == f".tmp-rows.jsonl-{os.getpid()}"
        True
    """
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    name = _shortened(path.name)
    return path.with_name(f"{ASIDE}{name}" if shared else f"{ASIDE}{name}-{os.getpid()}")


def _shortened(name: str) -> str:
    """Return a name as it stands in temporary names: one that would be too long there is cut, and marked by its digest.

    Example:
        >>> _shortened("rows.jsonl"), len(_shortened("x" * 255))
        ('rows.jsonl', 57)
    """
    data = os.fsencode(name)
    if len(data) <= _LONGEST_WHOLE_NAME:
        return name
    # Characters, not bytes: macOS takes no name with half a character.
    return f"{name[:40]}-{hashlib.sha256(data).hexdigest()[:16]}"


def cache_root() -> Path:
    """Return the folder of everything that can be made again: INSTIL_CACHE, else one in the user's cache folder."""
    own = os.environ.get("INSTIL_CACHE")
    return home_path(own) if own else home_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "instil"


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a binary file that replaces `path` in one move when the context ends without an error.

    After an error, a full disk included, `path` is as it was and nothing else is left. Its folder must exist.

    Raises:
        OSError: If the disk refuses.
    """
    aside = aside_of(path)
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):  # report the first error, not that of cleaning up
            aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text_atomic(path: Path, text: str, *, errors: str = "strict") -> None:
    """Replace a text file in one move, in UTF-8.

    Args:
        path: The file.
        text: Its new content.
        errors: What becomes of characters that UTF-8 cannot hold, as in `str.encode`.
    """
    with atomic_file(path) as file:
        file.write(text.encode("utf-8", errors))


def write_texts_atomic(texts: Mapping[Path, str]) -> None:
    """Replace several text files: all of them are on the disk before the first one gets its name.

    After an error, a full disk included, all files are as they were. Characters that UTF-8 cannot hold become ``?``.

    Raises:
        OSError: If the disk refuses.
    """
    try:
        for path, text in texts.items():
            aside_of(path).write_bytes(text.encode("utf-8", "replace"))
            sync_path(aside_of(path))
        for path in texts:
            os.replace(aside_of(path), path)
    except BaseException:
        for path in texts:
            with contextlib.suppress(OSError):
                aside_of(path).unlink(missing_ok=True)
        raise


def write_json_atomic(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a JSON file in one move."""
    write_text_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def atomic_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """Make an empty folder to write into; it becomes `folder` when the context ends without an error.

    After an error `folder` is as it was and nothing else is left. Folders above it are made.

    Args:
        folder: The folder to write.
        replace: Whether a folder of that name gives way to the new one. Otherwise only an empty one does.

    Raises:
        OSError: If the disk refuses, or a folder is there that must not be replaced.
    """
    aside = aside_of(folder)
    shutil.rmtree(aside, ignore_errors=True)
    if replace:
        sweep_dead(folder)  # a process killed between the two renames has left the only copy under another name
    try:
        aside.mkdir(parents=True)
        yield aside
        put_in_place(aside, folder, replace=replace)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def put_in_place(aside: Path, folder: Path, *, replace: bool = False) -> None:
    """Flush a finished folder to the disk and rename it to `folder`.

    Args:
        aside: The finished folder, beside `folder`.
        folder: Its final name.
        replace: Whether a folder of that name is removed; it is moved away first and deleted last.

    Raises:
        OSError: If the disk refuses, or `folder` is not empty and `replace` is false.
    """
    _share_as_the_folder(aside)
    sync_tree(aside)
    old = _move_away(folder, OLD) if replace and folder.exists() else None
    try:
        os.rename(aside, folder)
    except OSError:
        if old is not None and not folder.exists():
            os.rename(old, folder)
        raise
    sync_folder(folder.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _share_as_the_folder(folder: Path) -> None:
    """Let those read a folder's files who may read the folder, which was made as the umask says.

    Why: safetensors writes its files for the owner alone, whatever the umask.
    """
    readable = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(path.stat().st_mode | readable)


def remove_folder(folder: Path) -> None:
    """Remove a folder so that no part of it is ever seen under its name."""
    if folder.exists():
        shutil.rmtree(_move_away(folder, GONE))


def _move_away(folder: Path, prefix: str) -> Path:
    moved = folder.with_name(f"{prefix}{_shortened(folder.name)}-{os.getpid()}")
    os.replace(folder, moved)
    return moved


def sweep_aside(folder: Path) -> list[str]:
    """Remove everything that interrupted writers left in a folder, and return its names.

    Only for a folder that this process has locked, or that nobody else writes to, and whose names are short.
    """
    remains = sorted(path for path in folder.iterdir() if path.name.startswith((ASIDE, OLD))) if folder.is_dir() else []
    for path in remains:
        replaced = path.with_name(path.name.removeprefix(OLD).rpartition("-")[0])
        _put_back_or_remove(path, replaced if path.name.startswith(OLD) else None)
    return [path.name for path in remains]


def sweep_dead(path: Path) -> None:
    """Remove what killed processes of this machine left of a file or folder, beside it; errors are ignored."""
    starts = tuple(f"{prefix}{_shortened(path.name)}-" for prefix in (ASIDE, GONE, OLD))
    for left in path.parent.iterdir() if path.parent.is_dir() else ():
        process = left.name.rpartition("-")[2]
        if left.name.rpartition("-")[0] + "-" in starts and process.isdigit() and not is_running(int(process)):
            with contextlib.suppress(OSError):
                _put_back_or_remove(left, path if left.name.startswith(OLD) else None)


def _put_back_or_remove(path: Path, replaced: Path | None) -> None:
    """Remove what an interrupted writer left; the only copy of a folder that was being replaced is put back instead."""
    if replaced is not None and not replaced.exists():
        os.rename(path, replaced)
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def is_running(process: int) -> bool:
    """Return whether a process of this machine runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, as another user
        return True
    return True


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it.

    Returns:
        The folders that did not exist before, the lowest first.

    Raises:
        OSError: If it cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove empty folders, the lowest first; stop at one that is not empty."""
    with contextlib.suppress(OSError):
        for path in folders:
            path.rmdir()


@contextlib.contextmanager
def new_folders(folder: Path) -> Iterator[None]:
    """Make a folder and those above it; those that are new are removed again if the context ends with an error.

    Raises:
        OSError: If it cannot be made.
    """
    made = make_folder(folder)
    try:
        yield
    except BaseException:
        remove_empty(made)
        raise


def size_on_disk(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder. One that is removed meanwhile counts nothing."""
    if not path.is_dir():
        return path.stat().st_size if path.is_file() else 0
    total, waiting = 0, [os.fspath(path)]
    while waiting:  # by hand: `Path.rglob` takes three times as long, which counts in a list of 500 runs
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as items:
            for item in items:
                if item.is_dir(follow_symlinks=False):
                    waiting.append(item.path)
                    continue
                with contextlib.suppress(OSError):
                    total += item.stat().st_size if item.is_file() else 0
    return total


def sync_path(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until a folder's names are on the disk, if its file system supports that."""
    try:
        sync_path(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def sync_tree(folder: Path) -> None:
    """Wait until a folder with everything in it is on the disk."""
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        elif path.is_file():
            sync_path(path)
    sync_folder(folder)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Report a write that the disk refuses as an error that the user can act on.

    Raises:
        RunError: In place of an OSError from the disk.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        raise RunError(
            f"{folder}: cannot be written to ({error}). What is saved there is complete. "
            "Free disk space or fix the folder's permissions, then continue with --resume."
        ) from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a run folder for this process while the context is open; the kernel unlocks it when the process dies.

    Raises:
        RunError: If another process has locked it, or the folder cannot be written to.
    """
    with disk_errors(folder):
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise RunError(
            f"{folder}: another run (process {holder}) is writing to it. Expected one run per folder. "
            "Wait for that run, stop it, or set another output."
        ) from None
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def lock_holder(folder: Path) -> int | None:
    """Return the process that has locked a folder, or None. Only processes of this machine are known.

    Why: the lock itself is not tried, because that would make a run fail that starts at the same moment.
    """
    try:
        process = (folder / LOCK).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
    return int(process) if process.isdecimal() and is_running(int(process)) else None
