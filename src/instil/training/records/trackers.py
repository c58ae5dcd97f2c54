"""TensorBoard, W&B and Trackio, where the recipe asks for them. Nothing leaves the machine otherwise.

A run that is resumed goes on in the tracker's run that it began: `trackers.json` in the run folder has its name there. Questionable
on purpose: steps that were counted after the checkpoint are counted again, with the same bits; TensorBoard is told to forget
the first time, W&B keeps the first, Trackio both.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from instil.errors import InstilError, MissingPackageError, RunError
from instil.files import write_json_atomic
from instil.recipe import Recipe
from instil.training.records.run_folder import RunPaths, read_run_json


class Tracker(Protocol):
    """Takes the lines of `metrics.jsonl`."""

    def add(self, line: Mapping[str, Any]) -> None:
        """Take a line."""

    def close(self) -> None:
        """Finish; nothing is added afterwards."""


def check_trackers(names: Sequence[str]) -> None:
    """Find out that a tracker is not installed while nothing is written yet.

    Raises:
        MissingPackageError: If one is not.
    """
    for name in names:
        if sys.modules.get(name, name) is None or importlib.util.find_spec(name) is None:
            raise _missing(name)


def _missing(tracker: str) -> MissingPackageError:
    return MissingPackageError(tracker, needed_for=f"tracking.to: {tracker}", extra="tracking")


def open_trackers(recipe: Recipe, paths: RunPaths, *, done: int = 0) -> list[Tracker]:
    """Open the trackers that a recipe names.

    Args:
        recipe: The resolved recipe.
        paths: The run folder, which exists.
        done: Steps done before, whose lines the trackers have already.

    Raises:
        MissingPackageError: If one is not installed.
        RunError: If one cannot start, W&B without a key for example.
    """
    opened: list[Tracker] = []
    for tracker in dict.fromkeys(recipe.tracking.to):
        try:
            if tracker == "tensorboard":
                opened.append(_TensorBoard(paths.folder / "tensorboard", done=done))
            else:
                opened.append(_Run(_START[tracker](recipe, paths)))
        except ImportError:
            raise _missing(tracker) from None
        except InstilError:
            raise
        except Exception as error:  # each has errors of its own kinds
            reason = str(error).strip().split("\n")[0]
            raise RunError(
                f"tracking.to: {tracker} cannot be started ({reason}); mend its settings (for W&B: wandb login, or WANDB_MODE=offline), "
                "or take it out"
            ) from None
    return opened


def flat_numbers(line: Mapping[str, Any], above: str = "") -> dict[str, float]:
    """Give the numbers of a line under joined names.

    Example:
        >>> flat_numbers({"step": 3, "loss": 0.5, "best": True, "seconds": {"forward": 1.0}})
        {'step': 3.0, 'loss': 0.5, 'seconds/forward': 1.0}
    """
    found: dict[str, float] = {}
    for key, value in line.items():
        if isinstance(value, Mapping):
            found |= flat_numbers(value, f"{above}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{above}{key}"] = float(value)
    return found


class _TensorBoard:
    def __init__(self, folder: Path, *, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        again = (done + 1 if done else 0) if folder.exists() else None
        self._writer = SummaryWriter(log_dir=str(folder), purge_step=again)

    def add(self, line: Mapping[str, Any]) -> None:
        for key, value in flat_numbers(line).items():
            self._writer.add_scalar(key, value, line["step"])

    def close(self) -> None:
        self._writer.close()


class _Run:
    """W&B's or Trackio's run; they share one interface."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def add(self, line: Mapping[str, Any]) -> None:
        self._run.log(flat_numbers(line), step=line["step"])

    def close(self) -> None:
        self._run.finish()


def _start_wandb(recipe: Recipe, paths: RunPaths) -> Any:
    """Start W&B's run, or go on with it by its id."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # to its makers, about itself
    before = read_run_json(paths.trackers).get("wandb")
    goes_on = {} if before is None else {"id": before["id"], "resume": "allow"}
    run = importlib.import_module("wandb").init(**_named(recipe, paths), dir=str(paths.folder), **goes_on)
    _remember(paths, wandb={"id": run.id})
    return run


def _start_trackio(recipe: Recipe, paths: RunPaths) -> Any:
    """Start Trackio's run, or go on with it: it finds the latest of a name, which may be another run's meanwhile."""
    given = _named(recipe, paths)
    before = read_run_json(paths.trackers).get("trackio", {})
    goes_on = before.get("name") == given["name"]
    run = importlib.import_module("trackio").init(**given, resume="allow" if goes_on else "never")
    if goes_on and run.id != before["id"]:
        raise RunError(
            f"tracking.name: Trackio's latest run named {given['name']!r} is not the one that {paths.folder} began; "
            "set tracking.name to a new name, or take trackio out of tracking.to"
        )
    _remember(paths, trackio={"id": run.id, "name": given["name"]})
    return run


_START = {"wandb": _start_wandb, "trackio": _start_trackio}


def _named(recipe: Recipe, paths: RunPaths) -> dict[str, Any]:
    name = recipe.tracking.name or paths.folder.resolve().name
    return {"project": recipe.tracking.project, "name": name, "config": recipe.model_dump(mode="json")}


def _remember(paths: RunPaths, **ids: Mapping[str, str]) -> None:
    write_json_atomic(paths.trackers, read_run_json(paths.trackers) | ids)
