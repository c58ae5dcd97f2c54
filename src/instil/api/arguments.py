"""Checks the arguments of a public call, so that a wrong one is a plain error and not a fault deep in a library."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path

from instil.errors import InstilError
from instil.files import home_path, is_file_name


def check_choice(name: str, value: object, allowed: Sequence[str], error: type[InstilError]) -> None:
    """Raise if a value is none of the words that are allowed.

    Example:
        >>> from instil.errors import ExportError
        >>> check_choice("dtype", "fp8", ["fp32", "bf16"], ExportError)
        Traceback (most recent call last):
        instil.errors.ExportError: dtype: found 'fp8'. Expected fp32 or bf16. Correct the argument.
    """
    if not isinstance(value, str) or value not in allowed:
        listed = ", ".join(allowed[:-1]) + f" or {allowed[-1]}"
        raise error(f"{name}: found {value!r:.80}. Expected {listed}. Correct the argument.")


def check_type(name: str, value: object, kind: type, error: type[InstilError], *, expected: str) -> None:
    """Raise if a value is not of a type; None is always allowed, and True is no number."""
    if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
        raise error(f"{name}: found {value!r:.80}. Expected {expected}. Correct the argument.")


def path_of(name: str, value: object, error: type[InstilError]) -> Path:
    """Return a path; ``~`` is the home folder.

    Raises:
        InstilError: Of the class that is passed, if the value is no path.
    """
    text = fspath(value) if isinstance(value, str | PathLike) else None
    if not isinstance(text, str) or not text or not is_file_name(text):
        raise error(f"{name}: found {value!r:.80}. Expected a path as text or a Path. Correct the argument.")
    return home_path(text)
