"""List runs and set two side by side, from their folders alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from instil.errors import RunError
from instil.training.records.run_folder import Run, RunPaths, read_run_json, said_briefly


@dataclass(frozen=True, slots=True)
class Figure:
    """An evaluation's figure with its 95% interval and the number of cases."""

    value: float
    low: float
    high: float
    n: int


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
        size: Bytes on the disk.
        figures: What `instil evaluate` found, as ``task.figure``; empty where it was not run.
    """

    folder: Path
    model: str
    state: str
    steps: int
    loss: float | None
    heldout_loss: float | None
    seconds: float
    size: int
    figures: Mapping[str, Figure]


def find_runs(folder: Path) -> list[Path]:
    """Find the run folders in a folder, itself included, oldest first.

    Raises:
        RunError: If there is no such folder.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder; expected one that holds run folders; name it, or train a run first")
    found = [path.parent for path in (folder / "recipe.yaml", *folder.glob("*/recipe.yaml")) if path.exists()]
    return sorted(
        (path for path in found if RunPaths(path).environment.exists()), key=lambda path: path.stat().st_mtime
    )


def summarise(folder: Path) -> RunSummary:
    """Sum a run up.

    Raises:
        RunError: If it is no run folder, or a file in it is damaged.
    """
    try:
        return _summary(folder)
    except (KeyError, TypeError, AttributeError, ValueError) as error:  # whole as JSON, but not what a run writes
        raise RunError(
            f"{folder}: damaged: its metrics or its evaluation are not as a run writes them ({type(error).__name__}: {error}); "
            "mend or remove the file, or name another run"
        ) from error


def _summary(folder: Path) -> RunSummary:
    run = Run.open(folder)
    metrics = run.metrics()
    steps = [line for line in metrics if "loss" in line]
    heldout = [line["heldout_loss"] for line in metrics if "heldout_loss" in line]
    for loss in (*heldout[-1:], *(line["loss"] for line in steps[-1:])):
        if not isinstance(loss, int | float | None):
            raise TypeError(f"a loss is {loss!r}")
    return RunSummary(
        folder=folder,
        model=str(settings_of(folder).get("model.name", "")),
        state="finished" if run.finished else "not finished",
        steps=steps[-1]["step"] if steps else 0,
        loss=steps[-1]["loss"] if steps else None,
        heldout_loss=heldout[-1] if heldout else None,
        seconds=sum(line["seconds"]["total"] for line in steps),
        size=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        figures=figures_of(folder),
    )


def figures_of(folder: Path) -> dict[str, Figure]:
    """Read what `instil evaluate` left in a run folder.

    Raises:
        RunError: If it is damaged.
    """
    path = folder / "evaluation" / "evaluation.json"
    found = read_run_json(path)
    try:
        return {
            f"{task}.{name}": Figure(each["value"], each["low"], each["high"], each["n"])
            for task, figures in found.get("model", {}).get("figures", {}).items()
            for name, each in figures.items()
            if each["value"] is not None
        }
    except (AttributeError, KeyError, TypeError):
        raise RunError(
            f"{path}: damaged; expected figures with value, low, high and n; run `instil evaluate` again, or remove it"
        ) from None


def settings_of(folder: Path) -> dict[str, Any]:
    """Read a run's resolved settings under dotted names.

    Raises:
        RunError: If there is no recipe, or it is damaged.
    """
    path = RunPaths(folder).recipe
    if not path.exists():
        raise RunError(f"{folder}: no run folder (no recipe.yaml in it); name a folder that `instil train` wrote")
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        found = None
    if not isinstance(found, Mapping):
        raise RunError(f"{path}: damaged; expected the run's recipe as YAML; mend it, or name another run")
    return dict(_leaves(found))


def differences(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Give each run's values of the settings that are not the same in all of them; where a run writes to is left out."""
    each = [settings_of(folder) for folder in folders]
    names = dict.fromkeys(name for settings in each for name in settings if name != "output")
    uneven = [name for name in names if any(settings.get(name) != each[0].get(name) for settings in each)]
    return [{name: said_briefly(settings.get(name)) for name in uneven} for settings in each]


def differing_settings(first: Path, second: Path) -> list[tuple[str, Any, Any]]:
    """Give the settings in which two runs differ: name, the first's, the second's."""
    one, other = differences([first, second])
    return [(name, value, other[name]) for name, value in one.items()]


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
