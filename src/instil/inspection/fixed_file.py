"""Write the rows that `repair` fixed as JSON lines, for ``instil inspect --fix``, and show what changed.

The file is complete or absent, and never replaces another. Every change is shown: a fixed row as the lines that differ,
a row left out with its reason.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from instil.data.json_values import as_json, json_list_of, json_of
from instil.errors import DataError, FormatError
from instil.files import atomic_file
from instil.inspection.repair import Repair
from instil.refused_writes import refused_writes
from instil.views.visible import shortened

_WIDTH = 160


@dataclass(frozen=True, slots=True)
class FixedFile:
    """The written file, in numbers.

    Attributes:
        path: The new file.
        rows_in: Number of rows read.
        rows_out: Number of rows written.
        changed: Number of rows written with a change.
        left_out: Number of rows left out.
    """

    path: Path
    rows_in: int
    rows_out: int
    changed: int
    left_out: int

    def to_json(self) -> dict[str, int]:
        """Return the counts."""
        return {
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "mended": self.changed,
            "left_out": self.left_out,
        }

    def __str__(self) -> str:
        return (
            f"wrote {self.path}: {self.rows_in:,} rows in = {self.rows_out:,} written ({self.changed:,} of them fixed) "
            f"+ {self.left_out:,} left out"
        )


def check_target(path: Path) -> None:
    """Check that the file can be written, before any row is read.

    Raises:
        DataError: If its name does not end with .jsonl, it exists, or its folder does not exist.
    """
    if path.suffix != ".jsonl":
        raise DataError(
            f"{path}: the name ends with {path.suffix or 'no suffix'}. Expected .jsonl. Choose another name for --fix."
        )
    if path.exists():
        raise DataError(f"{path}: exists already. Expected a new file. Choose another name, or remove it.")
    if not path.parent.is_dir():
        raise DataError(f"{path}: its folder does not exist. Expected an existing folder. Make it first.")


def write_fixed(repairs: Iterable[Repair], path: Path) -> Iterator[Repair | FixedFile]:
    """Write the rows that are not left out.

    Args:
        repairs: The repair of every row, in order.
        path: A new .jsonl file.

    Yields:
        Every `Repair` that changed something, while rows are written, and a `FixedFile` at the end.

    Raises:
        DataError: If the file cannot be written, no row remains, or JSON cannot hold a column.
    """
    check_target(path)
    counts: Counter[str] = Counter()
    otherwise = "choose another file for --fix"
    with refused_writes(path, raises=DataError, otherwise=otherwise), atomic_file(path) as file:
        for repair in repairs:
            counts["in"] += 1
            if repair.after is None:
                counts["left_out"] += 1
            else:
                counts["out"] += 1
                counts["changed"] += bool(repair.changes)
                file.write(f"{_line(repair)}\n".encode())
            if repair.changes:
                yield repair
        if not counts["out"]:
            raise DataError(
                f"{path}: no row is left to write of {counts['in']:,}. Expected at least one. See the reasons above."
            )
    yield FixedFile(path, counts["in"], counts["out"], counts["changed"], counts["left_out"])


def diff_lines(repair: Repair) -> Iterator[Text]:
    """Yield one row's changes: a summary, then the lines that differ."""
    yield Text(f"{repair.place}: {'; '.join(repair.changes)}", style="bold")
    if repair.after is None:
        if repair.before is not None:
            yield Text(
                f"- {shortened(json.dumps(repair.before, ensure_ascii=False, default=_shown), _WIDTH)}", style="red"
            )
        return
    before, after = (_pretty(row) for row in (repair.before, repair.after))
    for line in list(difflib.unified_diff(before, after, n=1, lineterm=""))[2:]:
        if not line.startswith("@@"):
            style = {"-": "red", "+": "green"}.get(line[:1], "dim")
            yield Text(f"{line[:1]} {shortened(line[1:], _WIDTH)}", style=style)


def _pretty(row: Any) -> list[str]:
    return json.dumps(row, ensure_ascii=False, indent=1, default=_shown).splitlines()


def _line(repair: Repair) -> str:
    row = repair.after
    return json_of(row, place=repair.place) if isinstance(row, Mapping) else json_list_of(row, place=repair.place)


def _shown(value: Any) -> Any:
    """Return a value that JSON cannot hold as it is shown in a diff."""
    try:
        return as_json(value)
    except FormatError:
        return repr(value)
