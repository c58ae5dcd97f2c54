"""List runs and set two side by side, from their folders alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from instil.errors import RunError
from instil.training.run_folder import Run, RunPaths


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run on one line.

    Attributes:
        folder: The run folder.
        model: The model that it started from.
        state: `finished`, or how many steps are done.
        steps: Steps done.
        loss: Latest training loss, or None.
        heldout_loss: Latest held-out loss, or None.
        seconds: Seconds spent in steps.
    """

    folder: Path
    model: str
    state: str
    steps: int
    loss: float | None
    heldout_loss: float | None
    seconds: float


def find_runs(folder: Path) -> list[Path]:
    """Find the run folders in a folder, itself included, oldest first."""
    found = [path.parent for path in (folder / "recipe.yaml", *folder.glob("*/recipe.yaml")) if path.exists()]
    return sorted(
        (path for path in found if RunPaths(path).environment.exists()), key=lambda path: path.stat().st_mtime
    )


def summarise(folder: Path) -> RunSummary:
    """Sum a run up.

    Raises:
        RunError: If it is no run folder.
    """
    run = Run.open(folder)
    metrics = run.metrics()
    steps = [line for line in metrics if "loss" in line]
    heldout = [line["heldout_loss"] for line in metrics if "heldout_loss" in line]
    return RunSummary(
        folder=folder,
        model=str(settings_of(folder).get("model.name", "")),
        state="finished" if run.finished else "not finished",
        steps=steps[-1]["step"] if steps else 0,
        loss=steps[-1]["loss"] if steps else None,
        heldout_loss=heldout[-1] if heldout else None,
        seconds=sum(line["seconds"]["total"] for line in steps),
    )


def settings_of(folder: Path) -> dict[str, Any]:
    """Read a run's resolved settings under dotted names.

    Raises:
        RunError: If there is no recipe.
    """
    path = RunPaths(folder).recipe
    if not path.exists():
        raise RunError(f"{folder}: no run folder (no recipe.yaml in it); name a folder that `instil train` wrote")
    return dict(_leaves(yaml.safe_load(path.read_text(encoding="utf-8"))))


def differing_settings(first: Path, second: Path) -> list[tuple[str, Any, Any]]:
    """Give the settings in which two runs differ: name, the first's, the second's."""
    one, other = settings_of(first), settings_of(second)
    names = [name for name in (*one, *(name for name in other if name not in one)) if name != "output"]
    return [(name, one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)]


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
