"""A sweep on the screen: its plan, a heading for each run, the comparison, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator

from instil.recipe import Recipe
from instil.screen import Column, Screen
from instil.sweeps.comparison import comparison_table, next_steps, value_notes
from instil.sweeps.events import Planned, RunBegins, RunEnds, SweepEnds, SweepEvent
from instil.sweeps.plan import SweepPlan
from instil.sweeps.record import Sweep, SweepPaths, shown_figure, states_of
from instil.sweeps.run_sweep import follow_sweep
from instil.training.records.run_folder import resume_command

PLAN_COLUMNS = (
    Column("run"),
    Column("steps", number=True),
    Column("tokens", number=True),
    Column("memory", number=True),
    Column("time", number=True),
)
MOST_PLANNED = 30
"""Runs of a plan that are listed before a sweep begins."""


def show_sweep(recipe: Recipe, screen: Screen, *, resume: bool = False) -> Sweep:
    """Run a sweep, show it on a screen, and return it. Arguments as for `follow_sweep`."""
    events = follow_sweep(recipe, resume=resume, quiet=screen.quiet, say=screen.say)
    return _shown(events, recipe, screen)


def _shown(events: Iterator[SweepEvent], recipe: Recipe, screen: Screen) -> Sweep:
    sweep = None
    for event in events:
        if isinstance(event, Planned) and not screen.quiet:
            show_sums(event.plan, screen)
        elif isinstance(event, RunBegins) and not screen.quiet:
            screen.heading(f"run {event.number} of {event.total}: {event.run.name}")
        elif isinstance(event, RunEnds) and event.run.state == "failed":
            screen.error(f"{event.run.name}: {event.run.error}")
        elif isinstance(event, SweepEnds):
            sweep = event.sweep
            _show_end(event, recipe, screen)
    assert sweep is not None
    return sweep


def show_plan(plan: SweepPlan, screen: Screen) -> None:
    """Show the plan of a sweep: its sums, a row for each run, notes and warnings."""
    show_sums(plan, screen)
    rows = plan.rows()
    screen.table(PLAN_COLUMNS, rows[:MOST_PLANNED])
    if len(rows) > MOST_PLANNED:
        screen.line(f"and {len(rows) - MOST_PLANNED:,} further runs")
    for note in plan.notes:
        screen.note(f"note: {note}")
    for text in plan.warnings:
        screen.warn(text)


def show_sums(plan: SweepPlan, screen: Screen) -> None:
    """Show what a sweep will do in all; the warnings of a run stand on its card."""
    screen.heading(f"sweep {plan.folder}")
    screen.facts(plan.facts())
    for text in plan.disk_warnings():
        screen.warn(text)


def _show_end(event: SweepEnds, recipe: Recipe, screen: Screen) -> None:
    """Show the comparison, the best run, and what to do next."""
    sweep, paths = event.sweep, SweepPaths(event.sweep.folder)
    screen.heading(f"comparison: {states_of(sweep)}")
    screen.table(*comparison_table(sweep))
    for run in sweep.failed:
        screen.error(f"{run.name} failed: {run.error.partition('. ')[0]}")
    for note in value_notes(sweep, event.space):
        screen.note(f"note: {note}")
    files = [("table", str(paths.table)), *([("curves", str(paths.picture))] if event.has_picture else [])]
    if not screen.quiet:
        screen.facts([*files, *next_steps(sweep, recipe)])
    if not sweep.finished:
        screen.warn(f"the sweep was stopped: {states_of(sweep)}. Continue it with {resume_command(sweep.folder)}")
    elif sweep.best is None:
        screen.warn("no run has a result that can be compared")
    else:
        lowest = "lowest" if sweep.direction == "min" else "highest"
        screen.done(f"best: {sweep.best.folder}, with the {lowest} {sweep.best_by}: {shown_figure(sweep.best.value)}")
