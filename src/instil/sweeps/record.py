"""The sweep's folder: its runs with their state and results in ``sweep.json``, and the `Sweep` that reads it back.

A sweep's folder holds one run folder for each run, ``sweep.yaml`` (the recipe with its ``sweep:``), ``sweep.json``,
``comparison.csv``, ``losses.png``, and the search's ``search.db``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from instil.errors import RunError
from instil.evaluation.meanings import label_of
from instil.files import home_path, write_json_atomic
from instil.sweeps.names import setting_names, shown_value
from instil.sweeps.space import ACCURACY, HELDOUT, OF_RUNS, Direction
from instil.training.records.metrics import read_metrics
from instil.training.records.run_folder import Run, RunPaths
from instil.units import comparable, counted, duration, loss_words
from instil.views.html import frame, table, warnings

State = Literal["waiting", "running", "stopped", "failed", "finished"]
VERSION = 1


@dataclass(frozen=True, slots=True)
class SweepPaths:
    """Paths in a sweep's folder."""

    folder: Path

    @property
    def recipe(self) -> Path:
        """The recipe with its ``sweep:``."""
        return self.folder / "sweep.yaml"

    @property
    def record(self) -> Path:
        """The runs with their state and results; a folder that holds it is a sweep."""
        return self.folder / "sweep.json"

    @property
    def table(self) -> Path:
        """The comparison as a table, one line a run."""
        return self.folder / "comparison.csv"

    @property
    def picture(self) -> Path:
        """The curves of all runs in one plot."""
        return self.folder / "losses.png"

    @property
    def search(self) -> Path:
        """What Optuna stores."""
        return self.folder / "search.db"


@dataclass(frozen=True, slots=True)
class SweepRun:
    """One run of a sweep.

    Attributes:
        name: Its name, and that of its folder in the sweep's.
        folder: Its run folder.
        settings: Its values of the settings that vary, by dotted name.
        state: `waiting`, `running`, `stopped`, `failed` or `finished`.
        error: Why it failed, on one line.
        error_kind: Class of that error.
        value: What the runs are compared by, or None.
        steps: Steps of its model.
        loss: Training loss of its last step.
        heldout_loss: Held-out loss of its model.
        heldout_accuracy: Share of held-out pairs that its model wins, where it learned from preferences.
        tasks: Figures of its tasks, as ``task.figure``.
        seconds: Seconds that it took.
    """

    name: str
    folder: Path
    settings: Mapping[str, Any]
    state: State = "waiting"
    error: str = ""
    error_kind: str = ""
    value: float | None = None
    steps: int | None = None
    loss: float | None = None
    heldout_loss: float | None = None
    heldout_accuracy: float | None = None
    tasks: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the run as it stands in ``sweep.json``."""
        return {
            "name": self.name,
            "settings": dict(self.settings),
            "state": self.state,
            "error": self.error,
            "error_kind": self.error_kind,
            "value": self.value,
            "steps": self.steps,
            "loss": self.loss,
            "heldout_loss": self.heldout_loss,
            **({} if self.heldout_accuracy is None else {ACCURACY: self.heldout_accuracy}),
            "tasks": dict(self.tasks),
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True, repr=False)
class Sweep:
    """A sweep that ended, or was stopped on request.

    Attributes:
        folder: The sweep's folder.
        runs: Its runs, in the order in which they train.
        best_by: What they are compared by: `heldout_loss`, `loss`, `heldout_accuracy`, or a figure such as
            ``numeric.numeric``.
        direction: Whether less or more of that is better.
        signal: The signal that stopped it, or None.
    """

    folder: Path
    runs: tuple[SweepRun, ...]
    best_by: str = HELDOUT
    direction: Direction = "min"
    signal: int | None = None

    @classmethod
    def open(cls, folder: str | Path) -> Sweep:
        """Read a sweep from its folder.

        Raises:
            RunError: If it is none, or ``sweep.json`` is damaged.
        """
        return read_sweep(home_path(folder))

    @property
    def finished(self) -> bool:
        """Whether every run has ended, failed ones included."""
        return all(run.state in ("finished", "failed") for run in self.runs)

    @property
    def failed(self) -> tuple[SweepRun, ...]:
        """The runs that failed."""
        return tuple(run for run in self.runs if run.state == "failed")

    @property
    def ranking(self) -> tuple[SweepRun, ...]:
        """The finished runs with a value, the best one first; of equal ones the earlier run."""
        ended = [run for run in self.runs if run.state == "finished" and run.value is not None]
        return tuple(sorted(ended, key=lambda run: cast(float, run.value) * (1 if self.direction == "min" else -1)))

    @property
    def best(self) -> SweepRun | None:
        """The best finished run, or None."""
        return next(iter(self.ranking), None)

    @property
    def shows_won(self) -> bool:
        """Whether the share of held-out pairs that are won has a column beside what the runs are compared by."""
        return self.best_by != ACCURACY and any(run.heldout_accuracy is not None for run in self.runs)

    @property
    def table(self) -> list[dict[str, Any]]:
        """The comparison, a record for each run: name, settings that vary, state and results. pandas reads it."""
        return [
            {
                "run": run.name,
                **run.settings,
                "state": run.state,
                "best": run == self.best,
                self.best_by: run.value,
                "steps": run.steps,
                **({"heldout_loss": run.heldout_loss} if self.best_by != HELDOUT else {}),
                **({ACCURACY: run.heldout_accuracy} if self.shows_won else {}),
                **({"loss": run.loss} if self.best_by != "loss" else {}),
                **{name: figure for name, figure in run.tasks.items() if name != self.best_by},
                "seconds": run.seconds,
                "error": run.error,
            }
            for run in self.runs
        ]

    def __fspath__(self) -> str:
        """Return the folder as text."""
        return str(self.folder)

    def __repr__(self) -> str:
        best = f", best {self.best.name} ({label_of(self.best_by)} {self.best.value:.4g})" if self.best else ""
        return f"Sweep {self.folder}: {states_of(self)}{best}"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the comparison, the best run marked."""
        short = setting_names(dict.fromkeys(name for run in self.runs for name in run.settings))
        head = ["run", *short.values(), label_of(self.best_by), "steps", "in steps", "state"]
        rows = [
            [
                f"{run.name} (best)" if run == self.best else run.name,
                *(shown_value(run.settings.get(name)) for name in short),
                shown_figure(run.value),
                "" if run.steps is None else f"{run.steps:,}",
                "" if run.seconds is None else duration(run.seconds),
                run.state,
            ]
            for run in self.runs
        ]
        failures = warnings([f"{run.name}: {run.error}" for run in self.failed])
        return frame(f"Sweep {self.folder}", facts=[states_of(self)], body=failures + table(head, rows))


def states_of(sweep: Sweep) -> str:
    """Return how many runs of a sweep are in which state, in words."""
    states = {state: sum(run.state == state for run in sweep.runs) for state in ("finished", "failed", "stopped")}
    ended = ", ".join(f"{count} {state}" for state, count in states.items() if count) or "none finished"
    return f"{counted(len(sweep.runs), 'run')}, {ended}"


def shown_figure(value: float | None) -> str:
    """Return a loss or a figure for a table."""
    return "" if value is None else loss_words(value)


def is_sweep(folder: Path) -> bool:
    """Return True if a folder is a sweep's."""
    return SweepPaths(folder).record.is_file()


def read_sweep(folder: Path) -> Sweep:
    """Read the sweep in a folder.

    Raises:
        RunError: If it is none, or ``sweep.json`` is damaged.
    """
    path = SweepPaths(folder).record
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        runs = tuple(SweepRun(folder=folder / run["name"], **run) for run in values["runs"])
        return Sweep(folder, runs, values["best_by"], values["direction"])
    except FileNotFoundError:
        raise RunError(f"{folder}: not a sweep (no sweep.json in it). Expected a sweep's folder. Name one.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path}: damaged ({type(error).__name__}: {error}). Expected the sweep's runs. Remove the file's folder, "
            "or start the sweep in another output."
        ) from None


def write_record(sweep: Sweep) -> None:
    """Write ``sweep.json``."""
    write_json_atomic(
        SweepPaths(sweep.folder).record,
        {
            "version": VERSION,
            "best_by": sweep.best_by,
            "direction": sweep.direction,
            "best": None if sweep.best is None else sweep.best.name,
            "runs": [run.to_json() for run in sweep.runs],
        },
    )


def with_results(run: SweepRun, *, best_by: str, final: str) -> SweepRun:
    """Return a finished run with its results, read from its folder.

    Args:
        run: The run.
        best_by: What the runs are compared by.
        final: The recipe's `checkpoint.final`: whether the run's model is that of the last or of the best step.

    Raises:
        RunError: If a file of the run is missing or damaged.
    """
    results = Run.open(run.folder).results
    metrics = read_metrics(RunPaths(run.folder).metrics)
    best = results["best_step"] if final == "best" else None
    step = results["steps"] if best is None else best
    heldout = [line for line in metrics if "heldout_loss" in line and line["step"] <= step]
    figures: dict[str, Any] = next(
        (line["tasks"] for line in reversed(metrics) if line.get("tasks") and line["step"] <= step), {}
    )
    tasks = {name: figure["value"] for name, figure in figures.items() if comparable(figure["value"]) is not None}
    last = heldout[-1] if heldout else {}
    own = {name: comparable(last.get(name)) for name in (HELDOUT, ACCURACY)} | {"loss": comparable(results["loss"])}
    return replace(
        run,
        state="finished",
        error="",
        error_kind="",
        steps=step,
        loss=own["loss"],
        heldout_loss=own[HELDOUT],
        heldout_accuracy=own[ACCURACY],
        tasks=tasks,
        seconds=results["training_seconds"],
        value=own[best_by] if best_by in OF_RUNS else tasks.get(best_by),
    )
