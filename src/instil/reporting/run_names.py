"""Names of runs that are shown beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def short_names(runs: Sequence[Path]) -> list[str]:
    """Return the names of runs without the folders that all of them are in, each name once.

    Example:
        >>> short_names([Path("runs/a"), Path("runs/sweep/a")]), short_names([Path("runs/a"), Path("runs/a/")])
        (['a', 'sweep/a'], ['a', 'a (2)'])
    """
    parts = [run.resolve().parts for run in runs]
    shared = 0
    while all(len(own) > shared + 1 for own in parts) and len({own[shared] for own in parts}) == 1:
        shared += 1
    names: list[str] = []
    for own in parts:
        name, number = "/".join(own[shared:]), 2
        while name in names:
            name, number = f"{'/'.join(own[shared:])} ({number})", number + 1
        names.append(name)
    return names
