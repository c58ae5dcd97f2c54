"""Runs as records: found in a folder, summarised from their files, sorted."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from instil.errors import RunError, nearest
from instil.files import ASIDE, home_path, lock_holder, nearest_beside, size_on_disk
from instil.recipe import PreferenceSettings, objective_words
from instil.training.records.run_figures import Figure, figure_words, figures_from, figures_of
from instil.training.records.run_folder import Run, RunPaths, is_run
from instil.training.records.run_settings import chosen_differences, in_words, settings_of
from instil.units import byte_size, comparable, counted, loss_words, share_words
from instil.views.html import frame, table, warnings

SORTS = ("date", "heldout", "loss", "won", "size", "name")
"""What runs are sorted by; the name of a figure of an evaluation is possible too."""
_DEPTH = 4
"""Folders below the first one in which runs are looked for."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run on one line.

    Attributes:
        folder: The run folder.
        name: Its path below the folder that was listed.
        state: ``finished``, ``running``, ``not finished`` or ``damaged``.
        model: The model that it started from.
        steps: Steps done.
        loss: Training loss of the last step, or None.
        heldout_loss: Held-out loss of the written model; of a run that has written none, the latest. Or None.
        heldout_step: The step that it was measured after, or None.
        heldout_accuracy: Share of held-out pairs that are won there, where the run learned from preferences, or None.
        objective: What the losses measure: ``sft``, or the objective with its numbers, such as ``dpo, beta 0.1``.
        best_heldout_loss: Lowest held-out loss after the first step, or None.
        best_step: Its step, or None.
        seconds: Seconds spent in steps.
        size: Bytes of the run folder.
        date: When the run last wrote a result.
        figures: Results of `instil evaluate` as ``task.figure``; without an evaluation, the latest of the run's own.
        settings: The settings in which the listed runs differ, under dotted names.
        problem: What is wrong with a damaged run; empty otherwise.
    """

    folder: Path
    name: str
    state: str
    model: str = ""
    steps: int = 0
    loss: float | None = None
    heldout_loss: float | None = None
    heldout_step: int | None = None
    heldout_accuracy: float | None = None
    objective: str = "sft"
    best_heldout_loss: float | None = None
    best_step: int | None = None
    seconds: float = 0.0
    size: int = 0
    date: datetime | None = None
    figures: Mapping[str, Figure] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the run as JSON values; a loss that is not finite is None."""
        values = {name: getattr(self, name) for name in self.__slots__ if name not in ("folder", "date", "figures")}
        figures = {
            name: {key: comparable(getattr(figure, key)) for key in ("value", "low", "high", "n")}
            for name, figure in self.figures.items()
        }
        losses = {name: comparable(values[name]) for name in ("loss", "heldout_loss", "best_heldout_loss")}
        date = None if self.date is None else self.date.isoformat(timespec="seconds")
        settings = dict(self.settings)
        return {"folder": str(self.folder), **values, **losses, "date": date, "figures": figures, "settings": settings}


class Runs(list[RunSummary]):
    """Runs, in order; a notebook shows them as a table."""

    def _repr_html_(self) -> str:
        """Return what a notebook shows: state, losses, figures and differing settings of every run."""
        damaged = [run for run in self if run.problem]
        figures = list(dict.fromkeys(name for run in self for name in run.figures))
        with_won = any(run.heldout_accuracy is not None for run in self)
        head = [
            "run",
            "state",
            "model",
            "steps",
            "held-out loss",
            *(["won"] if with_won else []),
            "loss",
            *map(short_figure, figures),
            "differs in",
            "size",
            "date",
        ]
        return frame(
            "Runs",
            facts=[counted(len(self), "run")],
            body=warnings([run.problem for run in damaged])
            + table(head, [_cells(run, figures, with_won=with_won) for run in self]),
        )


def _cells(run: RunSummary, figures: Sequence[str], *, with_won: bool) -> list[str]:
    """Return a run as a row of the notebook's table."""
    heldout = "" if run.heldout_loss is None else f"{loss_words(run.heldout_loss)} (step {run.heldout_step:,})"
    found = [run.figures.get(name) for name in figures]
    return [
        run.name,
        run.state,
        run.model,
        f"{run.steps:,}",
        heldout,
        *([share_words(run.heldout_accuracy)] if with_won else []),
        "" if run.loss is None else loss_words(run.loss),
        *("" if figure is None else figure_words(figure) for figure in found),
        in_words(run.settings),
        byte_size(run.size),
        "" if run.date is None else f"{run.date:%Y-%m-%d %H:%M}",
    ]


def runs(folder: str | os.PathLike[str] = "runs", *, sort: str = "date", last: int | None = None) -> Runs:
    """List the runs in a folder and in the folders below it, such as those of a sweep.

    A damaged run is in the list too: its `state` is ``damaged``, and `problem` names what is wrong.

    Args:
        folder: A folder with run folders, or a run folder.
        sort: ``date`` (newest first), ``heldout`` or ``loss`` (lowest first), ``won`` (pairs, most first), ``size`` (largest
            first), ``name``, or a figure of an evaluation such as ``exact_match`` (highest first). Runs without the
            value come last.
        last: Only this many runs, the newest.

    Returns:
        A record for each run, in a list that a notebook shows as a table.

    Raises:
        RunError: If there is no such folder or no run in it, or nothing can be sorted by `sort`.

    Example:
        >>> [run.name for run in runs("runs", sort="heldout")]  # doctest: +SKIP
    """
    path = home_path(folder)
    found = find_runs(path)
    if not found:
        raise RunError(
            f"{folder}: no runs here. Expected a folder with run folders. Name another folder, or train a run first."
        )
    if last is not None and (isinstance(last, bool) or not isinstance(last, int) or last < 1):
        raise RunError(f"last: found {last!r}. Expected a number of runs from 1. Correct it.")
    summaries = sorted_runs([_summary_or_problem(run, path) for run in found], by="date")[:last]
    return Runs(sorted_runs(with_differences(summaries), by=sort))


def find_runs(folder: Path) -> list[Path]:
    """Find the run folders in a folder and below it, itself included, by their path.

    Raises:
        RunError: If there is no such folder.
    """
    if not folder.is_dir():
        raise RunError(
            f"{folder}: no such folder{nearest_beside(folder)}. Expected a run folder, or a folder that holds some. "
            "Name it, or train a run first."
        )
    return sorted(_runs_below(folder, depth=_DEPTH))


def _runs_below(folder: Path, *, depth: int) -> Iterator[Path]:
    if is_run(folder):
        yield folder
        return  # what lies in a run is its own
    with contextlib.suppress(OSError):  # one that may not be read holds no run that could be shown
        for path in sorted(folder.iterdir()) if depth else ():
            if path.is_dir() and not path.is_symlink() and not path.name.startswith((".", ASIDE)):
                yield from _runs_below(path, depth=depth - 1)


def _summary_or_problem(folder: Path, above: Path) -> RunSummary:
    name = str(folder.relative_to(above)) if folder != above else folder.resolve().name
    try:
        return summarise(folder, name=name)
    except RunError as error:
        return RunSummary(folder, name, "damaged", size=size_on_disk(folder), date=_date(folder), problem=str(error))


def summarise(folder: Path, *, name: str = "") -> RunSummary:
    """Summarise a run.

    Args:
        folder: The run folder.
        name: Its name. Default: the folder as it was passed.

    Raises:
        RunError: If it is not a run folder, or a file in it is damaged.
    """
    try:
        return _summary(folder, name or str(folder))
    except (KeyError, TypeError, AttributeError, ValueError) as error:  # valid JSON, but not what a run writes
        raise RunError(
            f"{folder}: damaged: its metrics or its evaluation are not as a run writes them "
            f"({type(error).__name__}: {error}). Fix or remove the file, or name another run."
        ) from error


def _summary(folder: Path, name: str) -> RunSummary:
    run = Run.open(folder)
    metrics = run.metrics()
    # A line with a loss is a step, one with a held-out loss an evaluation.
    steps = [line for line in metrics if "loss" in line]
    return summary_of(
        run,
        name=name,
        settings=settings_of(folder),
        last=steps[-1] if steps else {},
        seconds=sum(line["seconds"]["total"] for line in steps),
        others=[line for line in metrics if "loss" not in line],
    )


def summary_of(
    run: Run,
    *,
    name: str,
    settings: Mapping[str, Any],
    last: Mapping[str, Any],
    seconds: float,
    others: Sequence[Mapping[str, Any]],
) -> RunSummary:
    """Summarise a run whose files have been read.

    Args:
        run: The run.
        name: Its name.
        settings: Its settings, as `settings_of` reads them.
        last: The metrics of its last step; empty before the first one.
        seconds: Seconds spent in steps.
        others: All lines of its metrics that are no step.
    """
    heldout = [(int(line["step"]), _loss(line["heldout_loss"])) for line in others if "heldout_loss" in line]
    best = min((pair for pair in heldout if pair[0] > 0 and math.isfinite(pair[1])), key=lambda p: p[1], default=None)
    written = heldout[-1] if heldout else None
    if run.finished and settings.get("checkpoint.final") == "best" and best is not None:
        written = best
    won = {line["step"]: float(line["heldout_accuracy"]) for line in others if "heldout_accuracy" in line}
    own_figures = [line["tasks"] for line in others if "tasks" in line]
    return RunSummary(
        folder=run.folder,
        name=name,
        state=_state(run),
        model=str(settings.get("model.name", "")),
        steps=int(last["step"]) if last else 0,
        loss=_loss(last["loss"]) if last else None,
        heldout_loss=written[1] if written else None,
        heldout_step=written[0] if written else None,
        heldout_accuracy=won.get(written[0]) if written else None,
        objective=_objective(settings),
        best_heldout_loss=best[1] if best else None,
        best_step=best[0] if best else None,
        seconds=seconds,
        size=size_on_disk(run.folder),
        date=_date(run.folder),
        figures=figures_of(run.folder) or (figures_from(own_figures[-1]) if own_figures else {}),
    )


def _objective(settings: Mapping[str, Any]) -> str:
    numbers = {
        name: settings[f"preference.{name}"]
        for name in PreferenceSettings.model_fields
        if f"preference.{name}" in settings
    }
    return objective_words(settings.get("training.objective", "sft"), PreferenceSettings(**numbers))


def _loss(value: Any) -> float:
    """Return a loss; JSON without NaN has null for one that is not finite."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise TypeError(f"a loss is {value!r}")
    return math.nan if value is None else float(value)


def _state(run: Run) -> str:
    if run.finished:
        return "finished"
    return "not finished" if lock_holder(run.folder) is None else "running"


def _date(folder: Path) -> datetime | None:
    paths = RunPaths(folder)
    for path in (paths.results, paths.metrics, paths.environment, folder):
        with contextlib.suppress(OSError):
            return datetime.fromtimestamp(path.stat().st_mtime).astimezone()
    return None


def with_differences(summaries: Sequence[RunSummary]) -> list[RunSummary]:
    """Return the runs with the settings in which they differ."""
    intact = [run for run in summaries if not run.problem]
    settings = dict(
        zip([run.folder for run in intact], chosen_differences([run.folder for run in intact]), strict=True)
    )
    fields = [{name: getattr(run, name) for name in RunSummary.__slots__} for run in summaries]
    return [RunSummary(**values | {"settings": settings.get(values["folder"], {})}) for values in fields]


def sorted_runs(summaries: Sequence[RunSummary], *, by: str) -> list[RunSummary]:
    """Return runs sorted as `runs` describes.

    Raises:
        RunError: If `by` is no such value.
    """

    def keys(run: RunSummary) -> float | str | None:
        if by == "date":
            return None if run.date is None else -run.date.timestamp()
        if by == "name":
            return run.name
        if by in ("heldout", "loss", "size"):
            value = {"heldout": run.heldout_loss, "loss": run.loss, "size": -run.size}[by]
            return comparable(value)
        if by == "won":
            return None if run.heldout_accuracy is None else -run.heldout_accuracy
        figure = figure_named(run.figures, by)
        return None if figure is None else -figure.value

    if by not in SORTS and not any(figure_named(run.figures, by) for run in summaries):
        tasks = sorted({short_figure(name) for run in summaries for name in run.figures})
        names = [*SORTS, *tasks]
        raise RunError(
            f"sort: found {by!r}{nearest(str(by), names)}. Expected one of {', '.join(names)}. Sort by one of them."
        )
    with_key = [(keys(run), run) for run in summaries]
    known = sorted((pair for pair in with_key if pair[0] is not None), key=lambda pair: (pair[0], pair[1].name))
    return [run for _, run in known] + [run for key, run in with_key if key is None]


def figure_named(figures: Mapping[str, Figure], name: str) -> Figure | None:
    """Return a figure by its name, whole or as `short_figure` has it."""
    return next((figure for whole, figure in figures.items() if name in (whole, short_figure(whole))), None)


def short_figure(name: str) -> str:
    """Return the name of a figure without what repeats.

    Example:
        >>> short_figure("exact_match.exact_match"), short_figure("behaviour.stops"), short_figure("rouge.rouge_l")
        ('exact_match', 'stops', 'rouge_l')
    """
    return name.rpartition(".")[2]
