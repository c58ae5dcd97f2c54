"""``instil clean``: list prepared stores by age and size, and remove some of them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from cyclopts import Parameter

if TYPE_CHECKING:
    from instil.reporting.stores import Stored
    from instil.screen import Screen

Value = TypeVar("Value")


def clean(
    *folders: Path,
    older_than: str | None = None,
    larger_than: str | None = None,
    keep: str | None = None,
    unusable: Annotated[bool, Parameter(negative=())] = False,
    all_stores: Annotated[bool, Parameter(name="all", negative=())] = False,
    needed: Annotated[bool, Parameter(negative=())] = False,
    remove: Annotated[bool, Parameter(negative=())] = False,
    runs: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative=())] = None,
    as_json: Annotated[bool, Parameter(name="json", negative=())] = False,
) -> None:
    """List the stores of prepared data, and remove those that you choose.

    Nothing is removed without --remove. A store that a process uses is never removed, and one that a run needs that is
    not finished only with --needed. A removed store costs time only: the next preparation makes it again.

    Args:
        folders: Folders of stores, besides the cache and the data.store of runs.
        older_than: Choose stores that were not used for this long, such as 30d or 12h.
        larger_than: Choose stores of at least this size, such as 500MB.
        keep: Choose all but the stores used last, up to this size together, such as 5GB.
        unusable: Choose what nothing can open: left over by a killed process, damaged, or of an old version.
        all_stores: Choose every store.
        needed: Choose also stores that a run needs that is not finished.
        remove: Remove the chosen stores.
        runs: Folders of runs whose stores are looked at. Default: runs.
        as_json: Print every value as JSON.
    """
    from instil.errors import DataError
    from instil.reporting import stores

    choice = stores.Choice(
        older=_parsed("--older-than", older_than, _seconds_of),
        larger=_parsed("--larger-than", larger_than, _bytes_of),
        keep=_parsed("--keep", keep, _bytes_of),
        unusable=unusable,
        needed=needed,
    )
    has_choice = all_stores or unusable or any(value is not None for value in (older_than, larger_than, keep))
    if remove and not has_choice:
        raise DataError(
            "clean: --remove without a choice. Expected --older-than, --larger-than, --keep, --unusable or --all. "
            "Add one of them."
        )
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder. Expected one with prepared stores. Name another one.")
    found_runs = stores.runs_in(runs or [Path("runs")])
    found = stores.stored_in(stores.store_folders(folders, found_runs), needed=stores.needed_by(found_runs))
    chosen = stores.chosen(found, choice) if has_choice else []
    gone, failed = stores.remove(chosen) if remove else ([], [])
    if as_json:
        print(json.dumps(_as_json(found, chosen, gone), indent=1))
    else:
        _show(found, chosen, gone if remove else None, has_choice=has_choice)
    if failed:
        raise DataError(
            f"{failed[0][0].folder}: {failed[0][1]}. {len(failed)} of the chosen stores left. "
            "Expected stores that can be removed. Try again, or change their permissions."
        )


def _parsed(option: str, text: str | None, parse: Callable[[str], Value]) -> Value | None:
    """Return the value of an option.

    Raises:
        DataError: If it is none.
    """
    from instil.errors import DataError

    try:
        return None if text is None else parse(text)
    except ValueError as error:
        raise DataError(f"{option}: found {text!r}. {error}. Correct it.") from None


def _as_json(found: Sequence[Stored], chosen: Sequence[Stored], gone: Sequence[Stored]) -> list[dict[str, object]]:
    chosen_folders, gone_folders = ({stored.folder for stored in stores} for stores in (chosen, gone))
    return [
        stored.to_json() | {"chosen": stored.folder in chosen_folders, "removed": stored.folder in gone_folders}
        for stored in found
    ]


def _show(
    found: Sequence[Stored], chosen: Sequence[Stored], gone: Sequence[Stored] | None, *, has_choice: bool
) -> None:
    """Print the stores, and what happens to those that were chosen."""
    from instil.screen import Screen
    from instil.units import byte_size, counted

    screen = Screen()
    if not found:
        screen.line("no prepared stores")
        return
    _show_tables(screen, found, chosen, gone)
    screen.line()
    if gone is not None:
        screen.done(f"freed {byte_size(sum(stored.size for stored in gone))}: {counted(len(gone), 'store')} removed")
    elif chosen:
        size = byte_size(sum(stored.size for stored in chosen))
        screen.line(f"{counted(len(chosen), 'store')}, {size} would be freed; --remove removes them")
    elif has_choice:
        screen.line("nothing to remove")
    else:
        screen.note("nothing is chosen: --older-than 30d, --larger-than 500MB, --keep 5GB, --unusable or --all chooses")


def _show_tables(
    screen: Screen, found: Sequence[Stored], chosen: Sequence[Stored], gone: Sequence[Stored] | None
) -> None:
    """Print the stores as tables, those of one folder together, with what happens to each."""
    from instil.screen import Cell, Column
    from instil.units import byte_size, counted

    removed = {stored.folder for stored in (chosen if gone is None else gone)}
    what = "would be removed" if gone is None else "removed"
    for folder in dict.fromkeys(stored.folder.parent for stored in found):
        inside = [stored for stored in found if stored.folder.parent == folder]
        screen.heading(f"{folder} ({counted(len(inside), 'store')}, {byte_size(sum(s.size for s in inside))})")
        rows: list[list[str | Cell]] = [
            [
                stored.key[:8],
                stored.data or "unknown",
                "" if stored.rows is None else f"{stored.rows:,}",
                byte_size(stored.size),
                age(time.time() - stored.used),
                Cell(what, "bad") if stored.folder in removed else Cell(_state(stored), "quiet"),
            ]
            for stored in inside
        ]
        screen.table(
            [
                Column("store"),
                Column("data"),
                Column("rows", number=True),
                Column("size", number=True),
                Column("used", number=True),
                Column(""),
            ],
            rows,
        )


def _state(stored: Stored) -> str:
    from instil.views.visible import shortened

    return f"needed by {shortened(Path(stored.run).name, 16)}" if stored.state == "needed" else stored.state


def age(seconds: float) -> str:
    """Return an age in its largest unit.

    Example:
        >>> age(30), age(7300), age(200_000)
        ('now', '2h ago', '2d ago')
    """
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit} ago"
    return "now"


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def _seconds_of(text: str) -> float:
    """Return the seconds of a duration such as ``30d``, ``12h``, ``90m`` or ``2w``.

    Raises:
        ValueError: If it is none.

    Example:
        >>> _seconds_of("12h"), _seconds_of("1.5d")
        (43200.0, 129600.0)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", text.lower())
    if match is None:
        raise ValueError("Expected a number and a unit: s, m, h, d or w, such as 30d")
    return float(match[1]) * _SECONDS[match[2]]


def _bytes_of(text: str) -> int:
    """Return the bytes of a size such as ``500MB``, ``2 GB`` or ``100k``, with units as `units.byte_size` has them.

    Raises:
        ValueError: If it is none.

    Example:
        >>> _bytes_of("2 GB"), _bytes_of("1.5k")
        (2147483648, 1536)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", text.lower())
    if match is None:
        raise ValueError("Expected a number and a unit: kB, MB, GB or TB, such as 500MB")
    return round(float(match[1]) * _BYTES[match[2]])
