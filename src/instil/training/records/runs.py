"""List runs and compare them, from their folders alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from instil.errors import RunError
from instil.recipe import Source
from instil.training.records.run_folder import Run, RunPaths, read_run_json


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
        state: `finished` or `not finished`.
        steps: Steps done.
        loss: Latest training loss, or None.
        heldout_loss: Latest held-out loss, or None.
        seconds: Seconds spent in steps.
        size: Bytes of the run folder.
        figures: Results of `instil evaluate` as ``task.figure``; empty if it has not run.
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
        raise RunError(f"{folder}: no such folder. Expected one that holds run folders. Name it, or train a run first.")
    folders = [path.parent for path in (folder / "recipe.yaml", *folder.glob("*/recipe.yaml")) if path.exists()]
    # A recipe of the user's own may be called recipe.yaml too; a run has an environment.json beside it.
    runs = [path for path in folders if RunPaths(path).environment.exists()]
    return sorted(runs, key=lambda path: path.stat().st_mtime)


def summarise(folder: Path) -> RunSummary:
    """Summarise a run.

    Raises:
        RunError: If it is not a run folder, or a file in it is damaged.
    """
    try:
        return _summary(folder)
    except (KeyError, TypeError, AttributeError, ValueError) as error:  # valid JSON, but not what a run writes
        raise RunError(
            f"{folder}: damaged: its metrics or its evaluation are not as a run writes them "
            f"({type(error).__name__}: {error}). Fix or remove the file, or name another run."
        ) from error


def _summary(folder: Path) -> RunSummary:
    run = Run.open(folder)
    metrics = run.metrics()
    # A line with a loss is a step, one with a held-out loss an evaluation.
    steps = [line for line in metrics if "loss" in line]
    heldout = [line["heldout_loss"] for line in metrics if "heldout_loss" in line]
    # Only the latest losses are shown, so only they have to be numbers.
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
    """Read the results of `instil evaluate` in a run folder.

    Raises:
        RunError: If it is damaged.
    """
    path = folder / "evaluation" / "evaluation.json"
    evaluation = read_run_json(path)
    try:
        return {
            f"{task}.{name}": Figure(figure["value"], figure["low"], figure["high"], figure["n"])
            for task, figures in evaluation.get("model", {}).get("figures", {}).items()
            for name, figure in figures.items()
            if figure["value"] is not None
        }
    except (AttributeError, KeyError, TypeError):
        raise RunError(
            f"{path}: damaged. Expected figures with value, low, high and n. Run `instil evaluate` again, or remove it."
        ) from None


def settings_of(folder: Path) -> dict[str, Any]:
    """Read a run's resolved settings under dotted names.

    Raises:
        RunError: If there is no recipe, or it is damaged.
    """
    path = RunPaths(folder).recipe
    if not path.exists():
        raise RunError(
            f"{folder}: not a run folder (no recipe.yaml in it). Expected one that `instil train` wrote. "
            "Name another folder."
        )
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        settings = None
    if not isinstance(settings, Mapping):
        raise RunError(f"{path}: damaged. Expected the run's recipe as YAML. Fix it, or name another run.")
    return dict(_leaves(settings))


def differences(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return each run's values of the settings that differ between the runs, without `output`."""
    all_settings = [settings_of(folder) for folder in folders]
    names = dict.fromkeys(name for settings in all_settings for name in settings if name != "output")
    differing = [
        name for name in names if any(settings.get(name) != all_settings[0].get(name) for settings in all_settings)
    ]
    return [{name: shorten_sources(settings.get(name)) for name in differing} for settings in all_settings]


def differing_settings(first: Path, second: Path) -> list[tuple[str, Any, Any]]:
    """Return the settings in which two runs differ: name, the first's value, the second's."""
    one, other = differences([first, second])
    return [(name, value, other[name]) for name, value in one.items()]


def shorten_sources(value: Any) -> Any:
    """Shorten a list of sources to their paths and the settings that differ from the defaults.

    Other values are returned unchanged.
    """
    # Settings arrive as JSON values: sources are a list of objects that have a path.
    if not (isinstance(value, list) and value and all(isinstance(item, dict) and "path" in item for item in value)):
        return value
    defaults = {name: field.get_default(call_default_factory=True) for name, field in Source.model_fields.items()}
    short = [
        {name: setting for name, setting in item.items() if name not in defaults or setting != defaults[name]}
        for item in value
    ]
    return [item["path"] if len(item) == 1 else item for item in short]


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
