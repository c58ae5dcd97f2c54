"""Run a sweep: check all runs, make the folder, train one run after the other, compare.

Read from top to bottom: `follow_sweep` is the story. `_next_run` says which run comes, `_trained` trains it.

Why: the runs share the prepared store, the imports and the files that the operating system holds in memory, and
nothing else. Keeping a base model's weights in memory was measured: copying them takes as long as reading them again.
"""

from __future__ import annotations

import contextlib
import gc
import json
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from instil.errors import InstilError, NonFiniteError, RecipeError, RunError, first_line_of
from instil.files import LOCK, disk_errors, locked, write_text_atomic
from instil.recipe import Recipe
from instil.screen import Heading, say_nothing
from instil.sweeps.comparison import draw_curves, write_table
from instil.sweeps.events import Planned, RunBegins, RunEnds, SweepEnds, SweepEvent
from instil.sweeps.names import run_name, run_names, shown_value
from instil.sweeps.plan import base_recipe, plan_sweep, resolved_space, sweep_folder
from instil.sweeps.record import Sweep, SweepPaths, SweepRun, is_sweep, read_sweep, with_results, write_record
from instil.sweeps.search import Search, Trial, check_installed
from instil.sweeps.space import OF_RUNS, Space, with_settings
from instil.training.processes.join import is_joined
from instil.training.records.closing import CardLine
from instil.training.records.run_folder import RunPaths, check_output, resume_command
from instil.training.resume import resumed_recipe
from instil.training.run import Say, as_card, train

DIVERGES_AGAIN = NonFiniteError.__name__
"""Class of the error that comes again at the same step, because a run's bits do not depend on when it runs."""


def run_sweep(recipe: Recipe, *, resume: bool = False, quiet: bool = False) -> Sweep:
    """Run a sweep to its end, or until it is asked to stop. See `follow_sweep`."""
    ended: SweepEvent | None = None
    for event in follow_sweep(recipe, resume=resume, quiet=quiet, say=say_nothing):
        ended = event
    assert isinstance(ended, SweepEnds)
    return ended.sweep


def follow_sweep(recipe: Recipe, *, resume: bool = False, quiet: bool = False, say: Say) -> Iterator[SweepEvent]:
    """Run a sweep, and yield what happens; the last record is `SweepEnds`.

    Args:
        recipe: The recipe with its sweep. Its `output` is the sweep's folder.
        resume: Continue the sweep in that folder. Runs that failed are tried again, unless they diverged. New values
            and more trials are run too.
        quiet: Whether the runs print nothing.
        say: Prints a line for the user. Lines of run cards that several runs have are printed with the first of them.

    Raises:
        RunError: If the folder exists and `resume` is false, holds no sweep, or is another sweep's.
        MissingPackageError: If a search is set and Optuna is not installed.
        InstilError: If the sweep, or settings, data, template or model of a run are wrong. Nothing has been written.
        Stopped: A KeyboardInterrupt, if a signal came before a run's first step, or a second one after it.
    """
    space, folder = resolved_space(recipe), sweep_folder(recipe)
    say = _card_once(say)
    _check_start(space)
    is_resumed = _check_folder(folder, resume=resume)
    if not is_resumed:
        yield Planned(plan_sweep(recipe, say=as_card(say)))
        with disk_errors(folder.parent):
            folder.mkdir(parents=True, exist_ok=True)
    with locked(folder), disk_errors(folder):
        state = _resumed(recipe, space, folder) if is_resumed else _begun(recipe, space, folder)
        state.save()
        stop_signal = None
        while (entry := state.next_run()) is not None:
            yield RunBegins(entry, state.number_of(entry), max(space.num_runs, len(state.runs)))
            ended, stop_signal = state.train(entry, quiet=quiet, say=say)
            yield RunEnds(ended)
            if ended.state == "stopped":
                break
        sweep = replace(state.sweep, signal=stop_signal)
        yield SweepEnds(sweep, space, draw_curves(sweep))


def _card_once(say: Say) -> Say:
    """Return a function that prints a line of a run's card unless an earlier card had it; it prints all other lines.

    A heading waits for the first line below it that is printed, so that none stands alone.
    """
    printed: set[str] = set()
    headings: list[Heading] = []

    def say_once(line: str) -> None:
        if isinstance(line, Heading):
            headings[:] = [line]
            return
        if isinstance(line, CardLine):
            if line in printed:
                return
            printed.add(line)
        while headings:
            say(headings.pop())
        say(line)

    return say_once


def _check_start(space: Space) -> None:
    """Raise if this process cannot run the sweep."""
    if is_joined():
        raise RecipeError(
            "sweep: this process was started by torchrun. Expected one process, which starts those of each run. "
            "Run it without torchrun, with --parallel.processes N."
        )
    if space.search is not None:
        check_installed()


def _check_folder(folder: Path, *, resume: bool) -> bool:
    """Return True if the folder holds a sweep to resume.

    Raises:
        RunError: If it holds something and `resume` is false, or something else than a sweep.
    """
    if is_sweep(folder):
        if resume:
            return True
        raise RunError(
            f"{folder}: the sweep's folder exists. Expected a new one. Continue it with {resume_command(folder)}, set "
            "output, or remove it."
        )
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if resume and names and names <= {LOCK, SweepPaths(folder).recipe.name}:
        return False  # a sweep that was killed while it started
    if resume and names - {LOCK}:
        what = "a run" if RunPaths(folder).recipe.exists() else "no sweep"
        raise RunError(f"{folder}: holds {what}. Expected a sweep to resume, or a new folder. Set another output.")
    return check_output(folder, resume=False)


@dataclass(slots=True)
class _State:
    """A sweep while it goes on.

    Attributes:
        folder: The sweep's folder.
        base: The recipe that its runs share.
        space: What varies.
        runs: Its runs so far; without a search, all of them.
        search: The search, or None.
        pending: Names of the runs that this process has not tried.
        trial: The trial that is running, of a search.
    """

    folder: Path
    base: Recipe
    space: Space
    runs: list[SweepRun]
    search: Search | None
    pending: list[str]
    trial: Trial | None = None

    @property
    def sweep(self) -> Sweep:
        """The sweep as it is now."""
        return Sweep(self.folder, tuple(self.runs), self.space.best_by, self.space.direction)

    def save(self) -> None:
        """Write ``sweep.json`` and ``comparison.csv``."""
        write_record(self.sweep)
        write_table(self.sweep)

    def number_of(self, run: SweepRun) -> int:
        """Return the number of a run, from 1."""
        return [other.name for other in self.runs].index(run.name) + 1

    def next_run(self) -> SweepRun | None:
        """Return the run that comes next, or None at the end."""
        if self.search is None:
            return None if not self.pending else self._put(self._at(self.pending.pop(0)), state="running")
        self.trial = self.search.next()
        if self.trial is None:
            return None
        name = run_name(self.trial.settings, number=self.trial.number + 1)
        if name not in [run.name for run in self.runs]:
            self.runs.append(SweepRun(name, self.folder / name, dict(self.trial.settings)))
        return self._put(self._at(name), state="running")

    def train(self, run: SweepRun, *, quiet: bool, say: Say) -> tuple[SweepRun, int | None]:
        """Train a run, and store how it ended. Returns it, and the signal that stopped it."""
        signal = None
        try:
            ended, signal = _trained(run, self.recipe_of(run), self.space.best_by, quiet=quiet, say=say)
        except KeyboardInterrupt:
            self._put(run, state="stopped")
            self.save()
            raise
        self._put(ended)
        if self.search is not None and self.trial is not None and ended.state != "stopped":
            # The result counts from here on. A kill before this line has the finished run read again.
            self.search.finish(self.trial, ended.value)
        self.save()
        _check_figure(ended, self.space.best_by)
        _free_memory()
        return ended, signal

    def recipe_of(self, run: SweepRun) -> Recipe:
        """Return the recipe of a run."""
        own: dict[str, Any] = {**run.settings, "output": str(run.folder)}
        if self.base.tracking.name is not None:
            own["tracking.name"] = f"{self.base.tracking.name}-{run.name}"
        return with_settings(self.base, own)

    def _at(self, name: str) -> SweepRun:
        return next(run for run in self.runs if run.name == name)

    def _put(self, run: SweepRun, **changes: Any) -> SweepRun:
        """Replace a run by its newer state, write it, and return it."""
        changed = replace(run, **changes)
        self.runs[self.number_of(run) - 1] = changed
        write_record(self.sweep)
        return changed


def _begun(recipe: Recipe, space: Space, folder: Path) -> _State:
    """Return the state of a new sweep, and write its recipe."""
    write_text_atomic(SweepPaths(folder).recipe, recipe.to_yaml())
    runs = [] if space.search else _entries(list(space.combinations()), folder, known=[])
    return _State(folder, base_recipe(recipe, space), space, runs, _search(recipe, space, folder), _names(runs))


def _resumed(recipe: Recipe, space: Space, folder: Path) -> _State:
    """Return the state of a sweep that goes on.

    Raises:
        RunError: If its recipe is not the requested one.
    """
    saved = Recipe.load(SweepPaths(folder).recipe)
    base = resumed_recipe(with_settings(recipe, {}), with_settings(saved, {}), folder=folder)
    before = read_sweep(folder)
    _check_same_space(space, resolved_space(saved), before, folder)
    base = base_recipe(base, space)
    known = [_as_it_is_now(run, space, final=base.checkpoint.final) for run in before.runs]
    runs = known if space.search else _entries(list(space.combinations()), folder, known=known)
    write_text_atomic(SweepPaths(folder).recipe, recipe.to_yaml())
    again = [run for run in runs if run.state != "finished" and run.error_kind != DIVERGES_AGAIN]
    return _State(folder, base, space, runs, _search(recipe, space, folder), _names(again))


def _as_it_is_now(run: SweepRun, space: Space, *, final: str) -> SweepRun:
    """Return a known run with the results in its folder. Without them, it waits again; a search keeps what it stored."""
    if run.state != "finished":
        return run
    if RunPaths(run.folder).results.exists():
        return with_results(run, best_by=space.best_by, final=final)
    return run if space.search else SweepRun(run.name, run.folder, run.settings)


def _names(runs: list[SweepRun]) -> list[str]:
    return [run.name for run in runs]


def _search(recipe: Recipe, space: Space, folder: Path) -> Search | None:
    if space.search is None:
        return None
    return Search(SweepPaths(folder).search, space, seed=recipe.training.seed)


def _entries(points: list[dict[str, Any]], folder: Path, *, known: list[SweepRun]) -> list[SweepRun]:
    """Return a run for each combination of values; one that is known keeps its name and its results."""
    names = run_names(points)
    by_settings = {_key(run.settings): run for run in known}
    taken = {run.name for run in known}
    runs = []
    for name, settings in zip(names, points, strict=True):
        run = by_settings.get(_key(settings))
        if run is None:
            name = name if name not in taken else run_names([settings] * (len(taken) + 1))[-1]
            run = SweepRun(name, folder / name, settings)
        runs.append(run)
    return runs


def _key(settings: Any) -> str:
    """Return a text that equal settings share."""
    return json.dumps(settings, sort_keys=True, default=str)


def _check_same_space(space: Space, saved: Space, before: Sweep, folder: Path) -> None:
    """Raise unless a resumed sweep varies what it varied; it may have more values, and a search more trials."""
    if space.search != saved.search or (space.search and (space.values != saved.values)):
        found, kept = (_words(space.values) if space.search else "all combinations"), _words(saved.values)
        raise RunError(
            f"{folder}: the sweep was begun over {kept}, and now it is {found}. A resumed search keeps its ranges. "
            "Undo the change, or set another output."
        )
    if space.search and (space.best_by, space.direction) != (before.best_by, before.direction):
        raise RunError(
            f"{folder}: the search was begun for the {before.direction} of {before.best_by}, and now it is the "
            f"{space.direction} of {space.best_by}. Expected the same. Undo the change, or set another output."
        )
    if space.search:
        return
    points = {_key(settings) for settings in space.combinations()}
    for run in before.runs:
        if _key(run.settings) not in points:
            raise RunError(
                f"{folder}: its run {run.name} is not among the runs now. Expected all values that the sweep was begun "
                "with, and more if wanted. Name them again, or set another output."
            )


def _words(values: Any) -> str:
    return "; ".join(
        f"{name} {', '.join(map(shown_value, value)) if isinstance(value, tuple) else value}"
        for name, value in values.items()
    )


def _trained(run: SweepRun, recipe: Recipe, best_by: str, *, quiet: bool, say: Say) -> tuple[SweepRun, int | None]:
    """Train one run, or the rest of it. What goes wrong is recorded, and the others go on.

    Raises:
        Stopped: A KeyboardInterrupt, if a signal stopped it at once.
    """
    try:
        ended = train(recipe, resume=run.folder.exists(), quiet=quiet, say=say)
        if not ended.finished:
            return replace(run, state="stopped"), ended.signal
        return with_results(run, best_by=best_by, final=recipe.checkpoint.final), None
    except Exception as error:
        text = str(error) if isinstance(error, InstilError) else f"{type(error).__name__}: {first_line_of(error)}"
        if not isinstance(error, InstilError):
            # What no user can cause is kept whole, for the report of a bug.
            with contextlib.suppress(OSError):
                write_text_atomic(run.folder.with_name(f"{run.name}.error.txt"), traceback.format_exc())
        failed = replace(run, state="failed", error=" ".join(text.split()), error_kind=type(error).__name__, value=None)
        # Its frames hold the model of the run; the next run needs that memory.
        traceback.clear_frames(error.__traceback__)
    return failed, None


def _check_figure(run: SweepRun, best_by: str) -> None:
    """Raise if a finished run has not the figure that the runs are compared by: no other one would have it.

    Raises:
        RecipeError: With the figures that there are.
    """
    if run.state == "finished" and best_by not in OF_RUNS and best_by not in run.tasks:
        there = ", ".join(run.tasks) or "none, as no held-out row can be answered"
        raise RecipeError(
            f"sweep.best_by: {run.name} has no figure {best_by}. Its figures: {there}. Continue with one of them, or "
            f"with heldout_loss: {resume_command(run.folder.parent)} --best-by heldout_loss."
        )


def _free_memory() -> None:
    """Return what a run held: the next one plans with the memory that is free."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
