"""What all processes of a run must have in common before the first step: the recipe, and the run folder.

On one machine they have; on several, each is started by itself, with a recipe file and a disk of its own. Questionable on purpose: a folder is
known by a file that the first process puts into it, not by its path or its file system's number, which say nothing across machines.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instil.errors import RecipeError, RunError
from instil.files import ASIDE, disk_errors
from instil.recipe import Recipe
from instil.training.processes.ranks import Ranks

OWN = (("output",), ("device",), ("threads",), ("data", "store"))
"""Settings that may be each machine's own: where things lie there, and what it computes on."""

APPEARS_WITHIN = 60.0
"""Seconds in which a file must appear to every machine: NFS may remember for so long that a folder was not there (acdirmax, nfs(5))."""
LOOKS_EVERY = 0.5


def check_recipes(recipe: Recipe, ranks: Ranks) -> None:
    """Refuse processes that were started with different recipes; every process calls this.

    Raises:
        RecipeError: On every process; the message names the first setting that differs.
    """
    given = ranks.collect(_without_own(recipe.model_dump(mode="json")))
    message = None
    for rank, other in enumerate(given):
        found = _first_difference(given[0], other)
        if message is None and found is not None:
            name, first, mine = found
            message = (
                f"{name}: {mine!r} in process {rank}, {first!r} in the first; expected one recipe for all processes; start every "
                "machine with the same file and options"
            )
    message = ranks.tell(message)
    if message is not None:
        raise RecipeError(message)


def check_folder_is_shared(folder: Path, ranks: Ranks) -> None:
    """Refuse a run folder that is not the same one for all processes; every process calls this.

    Raises:
        RunError: On every process.
    """
    if ranks.size == 1:
        return
    name = f"{ASIDE}seen-{secrets.token_hex(8)}"
    if ranks.is_first:
        with disk_errors(folder):
            (folder / name).touch()
    name = ranks.tell(name)
    seen = ranks.collect(_appears(folder / name))
    if ranks.is_first:
        (folder / name).unlink()
    blind = ranks.tell([rank for rank, sees in enumerate(seen) if not sees])
    if blind:
        raise RunError(
            f"{folder}: process {blind[0]} of {ranks.size} does not see there what the first one writes; expected one folder for all; "
            "set output to a folder on a disk that all machines share"
        )


def _appears(path: Path) -> bool:
    """Say whether a file is there, or comes to be seen there."""
    until = time.monotonic() + APPEARS_WITHIN
    while not path.exists():
        if time.monotonic() > until:
            return False
        time.sleep(LOOKS_EVERY)
    return True


def _without_own(settings: dict[str, Any]) -> dict[str, Any]:
    for *above, name in OWN:
        group = settings
        for key in above:
            group = group[key]
        del group[name]
    return settings


def _first_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """Give the name of the first setting that differs, and both values."""
    for key, value in one.items():
        if isinstance(value, Mapping) and isinstance(other[key], Mapping):
            found = _first_difference(value, other[key])
            if found is not None:
                return f"{key}.{found[0]}", *found[1:]
        elif value != other[key]:
            return key, value, other[key]
    return None
