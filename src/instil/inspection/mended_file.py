"""Writes the mended rows as JSON lines, and shows what changed.

The file appears whole or not at all, and never over one that is there. Every change is shown: a mended row as the lines that differ, a
row left out with its reason.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from instil.errors import DataError
from instil.files import atomic_file
from instil.inspection.repair import Repair
from instil.inspection.visible import shortened

_WIDTH = 160


@dataclass(frozen=True, slots=True)
class Mended:
    """What was written.

    Attributes:
        path: The new file.
        rows_in: Rows read.
        rows_out: Rows written.
        changed: Rows written that differ from what they were.
        left_out: Rows left out.
    """

    path: Path
    rows_in: int
    rows_out: int
    changed: int
    left_out: int

    def to_json(self) -> dict[str, int]:
        """Give the counts."""
        return {
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "mended": self.changed,
            "left_out": self.left_out,
        }

    def __str__(self) -> str:
        return (
            f"wrote {self.path}: {self.rows_in:,} rows in = {self.rows_out:,} written ({self.changed:,} of them mended) "
            f"+ {self.left_out:,} left out"
        )


def check_target(path: Path) -> None:
    """Refuse a target that cannot be written, before anything is read.

    Raises:
        DataError: If it is no .jsonl, is there already, or its folder is not there.
    """
    if path.suffix != ".jsonl":
        raise DataError(
            f"{path}: mended rows are written as .jsonl; found {path.suffix or 'no suffix'}; name it .jsonl"
        )
    if path.exists():
        raise DataError(f"{path}: is there already; expected a new file; choose another name or remove it")
    if not path.parent.is_dir():
        raise DataError(f"{path}: its folder is not there; expected an existing folder; make it first")


def write_mended(repairs: Iterable[Repair], path: Path) -> Iterator[Repair | Mended]:
    """Write the rows that remain.

    Args:
        repairs: What became of every row, in order.
        path: A new .jsonl file.

    Returns:
        Every `Repair` that changed something, as it goes by, and at the end a `Mended`.

    Raises:
        DataError: If the file cannot be written, or no row remains.
    """
    check_target(path)
    counts: Counter[str] = Counter()
    try:
        with atomic_file(path) as file:
            for repair in repairs:
                counts["in"] += 1
                if repair.after is None:
                    counts["left_out"] += 1
                else:
                    counts["out"] += 1
                    counts["changed"] += bool(repair.changes)
                    file.write(_line(repair.after).encode())
                if repair.changes:
                    yield repair
            if not counts["out"]:
                raise DataError(
                    f"{path}: no row is left to write of {counts['in']:,}; expected at least one; see the reasons above"
                )
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror or error}); check the folder and its rights"
        ) from None
    yield Mended(path, counts["in"], counts["out"], counts["changed"], counts["left_out"])


def diff_lines(repair: Repair) -> Iterator[Text]:
    """Give one row's changes: what was done, and the lines that differ."""
    yield Text(f"{repair.place}: {'; '.join(repair.changes)}", style="bold")
    if repair.after is None:
        if repair.before is not None:
            yield Text(
                f"- {shortened(json.dumps(repair.before, ensure_ascii=False, default=_as_json), _WIDTH)}", style="red"
            )
        return
    before, after = (_pretty(row) for row in (repair.before, repair.after))
    for line in list(difflib.unified_diff(before, after, n=1, lineterm=""))[2:]:
        if not line.startswith("@@"):
            style = {"-": "red", "+": "green"}.get(line[:1], "dim")
            yield Text(f"{line[:1]} {shortened(line[1:], _WIDTH)}", style=style)


def _pretty(row: Any) -> list[str]:
    return json.dumps(row, ensure_ascii=False, indent=1, default=_as_json).splitlines()


def _line(row: Any) -> str:
    return json.dumps(row, ensure_ascii=False, default=_as_json) + "\n"


def _as_json(value: Any) -> Any:
    """Write values that only tables hold (days, times) as their text."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise DataError(f"a value of type {type(value).__name__} cannot be written as JSON; expected text, numbers, lists")
