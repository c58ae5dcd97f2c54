"""TensorBoard, W&B and Trackio, where the recipe asks for them. Nothing leaves the machine otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from instil.errors import MissingPackageError, RunError
from instil.recipe import Recipe


class Tracker(Protocol):
    """Takes the lines of `metrics.jsonl`."""

    def add(self, line: Mapping[str, Any]) -> None:
        """Take a line."""

    def close(self) -> None:
        """Finish; nothing is added afterwards."""


def open_trackers(recipe: Recipe, folder: Path) -> list[Tracker]:
    """Open the trackers that a recipe names.

    Raises:
        MissingPackageError: If one is not installed.
        RunError: If one cannot start, W&B without a key for example.
    """
    name = recipe.tracking.name or folder.name
    settings = recipe.model_dump(mode="json")
    opened: list[Tracker] = []
    for tracker in recipe.tracking.to:
        try:
            if tracker == "tensorboard":
                opened.append(_TensorBoard(folder / "tensorboard"))
            else:
                opened.append(_Run(tracker, project=recipe.tracking.project, name=name, settings=settings))
        except ImportError:
            raise MissingPackageError(tracker, needed_for=f"tracking.to: {tracker}", extra="tracking") from None
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
    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(log_dir=str(folder))

    def add(self, line: Mapping[str, Any]) -> None:
        for key, value in flat_numbers(line).items():
            self._writer.add_scalar(key, value, line["step"])

    def close(self) -> None:
        self._writer.close()


class _Run:
    """wandb and trackio share one interface: init, log, finish."""

    def __init__(self, package: str, *, project: str, name: str, settings: Mapping[str, Any]) -> None:
        import importlib

        self._package = importlib.import_module(package)
        self._run = self._package.init(project=project, name=name, config=dict(settings))

    def add(self, line: Mapping[str, Any]) -> None:
        self._run.log(flat_numbers(line), step=line["step"])

    def close(self) -> None:
        self._run.finish()
