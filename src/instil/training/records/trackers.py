"""TensorBoard, W&B and Trackio, if the recipe names them. Otherwise nothing leaves the machine.

A resumed run continues the tracker's run that it began; ``trackers.json`` in the run folder stores its name.

Why: steps that were recorded after the checkpoint are recorded again, with the same bits. TensorBoard is told to drop
the first record, W&B keeps the first, Trackio keeps both.
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
from instil.recipe import TrackingSettings
from instil.training.records.run_folder import RunPaths, read_run_json


class Tracker(Protocol):
    """Receives the lines of `metrics.jsonl`."""

    def add(self, line: Mapping[str, Any]) -> None:
        """Record a line."""

    def close(self) -> None:
        """Finish; nothing is added afterwards."""


def check_trackers(names: Sequence[str]) -> None:
    """Check that the trackers are installed, before anything is written.

    Raises:
        MissingPackageError: If one is not.
    """
    for name in names:
        if sys.modules.get(name, name) is None or importlib.util.find_spec(name) is None:
            raise _missing(name)


def _missing(tracker: str) -> MissingPackageError:
    return MissingPackageError(tracker, needed_for=f"tracking.to: {tracker}", extra="tracking")


def open_trackers(
    tracking: TrackingSettings, paths: RunPaths, *, settings: Mapping[str, Any], done: int = 0
) -> list[Tracker]:
    """Open the trackers that the recipe names.

    Args:
        tracking: The recipe's `tracking`.
        paths: The run folder, which exists.
        settings: Every setting of the run as JSON values; the trackers show them.
        done: Steps done before, whose lines the trackers have already.

    Raises:
        MissingPackageError: If one is not installed.
        RunError: If one cannot start, for example W&B without a key.
    """
    trackers: list[Tracker] = []
    for name in dict.fromkeys(tracking.to):
        try:
            if name == "tensorboard":
                trackers.append(_TensorBoard(paths.folder / "tensorboard", done=done))
            else:
                start = {"wandb": _start_wandb, "trackio": _start_trackio}[name]
                run_name = tracking.name or paths.folder.resolve().name
                trackers.append(_Run(start(paths, project=tracking.project, name=run_name, config=dict(settings))))
        except ImportError:
            raise _missing(name) from None
        except InstilError:
            raise
        except Exception as error:  # every tracker raises its own classes
            reason = str(error).strip().split("\n")[0]
            raise RunError(
                f"tracking.to: {name} cannot be started ({reason}). Expected a tracker that is set up. "
                "Fix its settings (for W&B: wandb login, or WANDB_MODE=offline), or remove it."
            ) from None
    return trackers


def flat_numbers(line: Mapping[str, Any], above: str = "") -> dict[str, float]:
    """Return the numbers of a line under joined names.

    Example:
        >>> flat_numbers({"step": 3, "loss": 0.5, "best": True, "seconds": {"forward": 1.0}})
        {'step': 3.0, 'loss': 0.5, 'seconds/forward': 1.0}
    """
    numbers: dict[str, float] = {}
    for key, value in line.items():
        if isinstance(value, Mapping):
            numbers |= flat_numbers(value, f"{above}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers[f"{above}{key}"] = float(value)
    return numbers


class _TensorBoard:
    def __init__(self, folder: Path, *, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Lines of this step and later ones are dropped: the run writes them again. A new folder has none.
        again = (done + 1 if done else 0) if folder.exists() else None
        self._writer = SummaryWriter(log_dir=str(folder), purge_step=again)

    def add(self, line: Mapping[str, Any]) -> None:
        for key, value in flat_numbers(line).items():
            self._writer.add_scalar(key, value, line["step"])

    def close(self) -> None:
        self._writer.close()


class _Run:
    """A run of W&B or Trackio, which share one interface."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def add(self, line: Mapping[str, Any]) -> None:
        self._run.log(flat_numbers(line), step=line["step"])

    def close(self) -> None:
        self._run.finish()


def _start_wandb(paths: RunPaths, *, project: str, name: str, config: dict[str, Any]) -> Any:
    """Start a run of W&B, or continue the one whose id is stored."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # reports to its makers about itself
    before = read_run_json(paths.trackers).get("wandb")
    resumed = {} if before is None else {"id": before["id"], "resume": "allow"}
    wandb = importlib.import_module("wandb")
    run = wandb.init(project=project, name=name, config=config, dir=str(paths.folder), **resumed)
    _remember(paths, wandb={"id": run.id})
    return run


def _start_trackio(paths: RunPaths, *, project: str, name: str, config: dict[str, Any]) -> Any:
    """Start a run of Trackio, or continue it.

    Trackio finds the latest run of a name, which may be another one by now.
    """
    before = read_run_json(paths.trackers).get("trackio", {})
    is_resumed = before.get("name") == name
    trackio = importlib.import_module("trackio")
    run = trackio.init(project=project, name=name, config=config, resume="allow" if is_resumed else "never")
    if is_resumed and run.id != before["id"]:
        raise RunError(
            f"tracking.name: Trackio's latest run named {name!r} is not the one that {paths.folder} began. "
            "Set tracking.name to a new name, or take trackio out of tracking.to."
        )
    _remember(paths, trackio={"id": run.id, "name": name})
    return run


def _remember(paths: RunPaths, **ids: Mapping[str, str]) -> None:
    write_json_atomic(paths.trackers, read_run_json(paths.trackers) | ids)
