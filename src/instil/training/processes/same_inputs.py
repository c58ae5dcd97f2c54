"""What all processes of a run must share before the first step: the recipe, and the run folder.

On one machine they do. On several machines each process is started by itself, with a recipe file and a disk of its own.

Why: the folder is recognised by a file that the first process writes into it. Its path and the number of its file
system mean nothing on another machine.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instil.errors import RecipeError, RunError
from instil.files import ASIDE, disk_errors
from instil.training.processes.ranks import Ranks

MACHINE_SETTINGS = (("output",), ("device",), ("threads",), ("data", "store"))
"""Settings that may differ between machines: where things are there, and what it computes on."""

APPEARS_WITHIN = 60.0
"""Seconds within which a file must appear on every machine.

NFS may remember for that long that a folder was missing. Source: acdirmax, nfs(5).
"""
POLL_SECONDS = 0.5


def check_same_settings(settings: Mapping[str, Any], ranks: Ranks) -> None:
    """Refuse processes that were started with different recipes. Every process calls this.

    Args:
        settings: This process's recipe as JSON values.
        ranks: The processes.

    Raises:
        RecipeError: On every process; the message names the first setting that differs.
    """
    all_settings = ranks.collect(_without_machine_settings(settings))
    message = None
    for rank, other in enumerate(all_settings):
        difference = _first_difference(all_settings[0], other)
        if message is None and difference is not None:
            name, first_value, value = difference
            message = (
                f"{name}: {value!r} in process {rank}, {first_value!r} in the first. "
                "Expected one recipe for all processes. Start every machine with the same file and options"
            )
    # The first process alone has compared; the others get its message.
    message = ranks.tell(message)
    if message is not None:
        raise RecipeError(message)


def check_folder_is_shared(folder: Path, ranks: Ranks) -> None:
    """Refuse a run folder that is not the same one for all processes. Every process calls this.

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
            f"{folder}: process {blind[0]} of {ranks.size} does not see there what the first one writes. "
            "Expected one folder for all. Set output to a folder on a disk that all machines share."
        )


def _appears(path: Path) -> bool:
    """Return True if a file exists, or appears in time."""
    until = time.monotonic() + APPEARS_WITHIN
    while not path.exists():
        if time.monotonic() > until:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _without_machine_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    shared = {name: dict(value) if isinstance(value, Mapping) else value for name, value in settings.items()}
    for *above, name in MACHINE_SETTINGS:
        group = shared
        for key in above:
            group = group[key]
        del group[name]
    return shared


def _first_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """Return the name of the first setting that differs, and both values."""
    for key, value in one.items():
        if isinstance(value, Mapping) and isinstance(other[key], Mapping):
            difference = _first_difference(value, other[key])
            if difference is not None:
                return f"{key}.{difference[0]}", *difference[1:]
        elif value != other[key]:
            return key, value, other[key]
    return None
