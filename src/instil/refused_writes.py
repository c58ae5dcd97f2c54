"""Report a write that the disk refuses as one line: a full disk, a quota, a read-only folder, a name that is too long.

Why: every command writes something else, and all of them fail alike. The reason decides what to do. A command adds only
its own error class and where else it could write.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from instil.errors import InstilError, first_line_of

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors of a disk that is full, or over its quota."""
REFUSED = FULL | {errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EISDIR}
"""Errors of a disk that is full, over its quota, read-only, broken or not ours, or has a folder in a file's place."""
_NUMBER = re.compile(r"\((?:os error|errno) (\d+)\)|\[(?i:errno) (\d+)\]")
"""An error's number in the texts of safetensors, tokenizers and pyarrow, whose classes or fields do not have it."""
_REMEDIES = {
    **dict.fromkeys(FULL, "Expected free space on the disk. Free some"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "Expected the permission to write there. Change it"),
    errno.EROFS: "Expected a disk that is not read-only. Mount it for writing",
    errno.EIO: "Expected a disk without errors. Check it",
    errno.EISDIR: "Expected a file, and a folder has this name. Remove it",
    errno.ENOTEMPTY: "Expected no such folder yet. Remove it",
    errno.ENAMETOOLONG: "Expected a shorter name. Shorten it",
    errno.ELOOP: "Expected no loop of links. Fix the links",
    errno.ENOENT: "Expected an existing folder. Make it",
}
_ANY_REMEDY = "Expected a place that can be written to. Fix the cause"


@contextlib.contextmanager
def refused_writes(
    path: str | Path, *, raises: type[InstilError], otherwise: str, found: str = "cannot be written", kept: str = ""
) -> Iterator[None]:
    """Report an error of the disk as one line with the path, the reason and the remedy.

    Args:
        path: What is written, by the name that the user knows.
        raises: Class of the error.
        otherwise: What else the user can do, such as "choose another --out".
        found: What failed.
        kept: What of it is on the disk, as a sentence.

    Raises:
        InstilError: Of the class `raises`, in place of an error of the disk. Other errors pass.

    Example:
        >>> from instil.errors import DataError
        >>> with refused_writes("rows.jsonl", raises=DataError, otherwise="choose another file"):
        ...     raise OSError(errno.ENOSPC, "No space left on device")
        Traceback (most recent call last):
        instil.errors.DataError: rows.jsonl: cannot be written (No space left on device). Expected free space on the \
disk. Free some, or choose another file.
    """
    try:
        yield
    except Exception as error:
        refusal = refusal_of(error, Path(path))
        if refusal is None:
            raise
        state = f"{kept} " if kept else ""
        raise raises(
            f"{refusal.place}: {found} ({refusal.reason}). {state}{refusal.remedy}, or {otherwise}."
        ) from error


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a write failed, for people.

    Attributes:
        place: The path.
        reason: What the system says.
        remedy: What was expected, and the first thing to do, without a full stop.
    """

    place: str
    reason: str
    remedy: str


def refusal_of(error: BaseException, path: Path) -> Refusal | None:
    """Return why a write to a path failed, or None for an error that does not come from the disk."""
    if isinstance(error, InstilError):
        return None
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (match := _NUMBER.search(str(error))):
        number = int(match[1] or match[2])
    if number is None and not isinstance(error, OSError):
        return None
    reason = first_line_of(error) if number is None else os.strerror(number)
    # A folder in the middle of a path can be a file. Then the system names the path, and not that file.
    file = next((above for above in path.parents if os.path.isfile(above)), path)
    if number in (errno.ENOTDIR, errno.EEXIST):
        return Refusal(str(path), reason, f"Expected a folder, and {file} is a file. Remove it")
    return Refusal(_place_of(error, path), reason, _REMEDIES.get(number or 0, _ANY_REMEDY))


def _place_of(error: BaseException, path: Path) -> str:
    """Return the path, or the file that the error names if that lies elsewhere, such as in the folder of scratch files."""
    names = [getattr(error, name, None) for name in ("filename", "filename2")]
    files = [Path(name).absolute() for name in names if isinstance(name, str)]
    target = path.absolute()
    # What is written aside lies beside the path; a folder that cannot be made lies above it.
    if not files or any(file.is_relative_to(target.parent) or target.is_relative_to(file) for file in files):
        return str(path)
    return str(files[-1])
