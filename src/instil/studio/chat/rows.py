"""Appends a row to a JSON Lines file of the workspace."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instil.studio.problems import PageProblem

LONGEST_LINE = 4_000_000
"""Bytes of the first line that are read to see what the file holds."""


def append_row(path: Path, row: Mapping[str, Any], *, shown: str) -> None:
    """Append a row; nothing that is in the file changes.

    Args:
        path: The file; it need not exist.
        row: The row.
        shown: The file's name in a problem.

    Raises:
        PageProblem: If the name is not of a JSON Lines file, or the file holds rows of another kind.
    """
    if path.suffix != ".jsonl" or path.name.startswith(".") or path.is_dir():
        raise PageProblem(422, "chat.no_rows_file", path=shown)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
    with path.open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # another tab, or another studio; closing unlocks it
        _check_kind(file, row, shown)
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = b"\n" + line
        file.write(line)


def _check_kind(file: Any, row: Mapping[str, Any], shown: str) -> None:
    """Raise if the first row of the file has not the columns of this one that say what it is."""
    file.seek(0)
    first = file.readline(LONGEST_LINE).strip()
    if not first:
        return
    try:
        columns = json.loads(first)
    except ValueError:
        raise PageProblem(422, "chat.other_rows", path=shown) from None
    kind = {"messages", "prompt", "chosen", "rejected"} & row.keys()
    if not isinstance(columns, dict) or not kind <= columns.keys():
        raise PageProblem(422, "chat.other_rows", path=shown)
