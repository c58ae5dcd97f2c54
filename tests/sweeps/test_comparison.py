"""Claims about the comparison: the best run, what its values say, and what to do next."""

from __future__ import annotations

from pathlib import Path

from instil.recipe import Recipe
from instil.sweeps.comparison import comparison_table, next_steps, value_notes
from instil.sweeps.record import Sweep, SweepRun
from instil.sweeps.space import Space

SPACE = Space({"optimizer.lr": (1e-4, 3e-4, 1e-3), "training.epochs": (1.0, 2.0)})


def swept(losses, direction="min"):
    """Return a sweep with a loss for each combination; None is a run that failed."""
    runs = [
        SweepRun(f"run-{number}", Path(f"runs/x/run-{number}"), settings, "failed", error="no memory")
        if loss is None
        else SweepRun(f"run-{number}", Path(f"runs/x/run-{number}"), settings, "finished", value=loss, loss=loss)
        for number, (settings, loss) in enumerate(zip(SPACE.combinations(), losses, strict=True))
    ]
    return Sweep(Path("runs/x"), tuple(runs), "loss", direction)


def test_a_best_value_at_an_end_says_to_try_further():
    notes = value_notes(swept([3, 3.1, 2, 2.1, 1, 0.9]), SPACE)
    assert notes == [
        "optimizer.lr 1e-3 is the largest that was tried; larger values may be better",
        "training.epochs 2 is the largest that was tried; larger values may be better",
    ]
    assert value_notes(swept([3, 3.1, 2, 1, 2.5, 2.6]), SPACE) == [
        "training.epochs 2 is the largest that was tried; larger values may be better"
    ]


def test_a_setting_that_changes_nothing_is_named():
    """As `training.epochs` where `training.max_steps` is set."""
    notes = value_notes(swept([3, 3, 2, 2, 2.5, None]), SPACE)
    assert notes == ["training.epochs changed nothing: runs that differ in it alone ended with the same losses"]
    assert value_notes(swept([None] * 6), SPACE) == []
    assert value_notes(swept([1, None, None, None, None, None]), SPACE) == [], "nothing ended beside it"


def test_the_best_run_is_first_and_failed_ones_are_last():
    sweep = swept([1, None, 3, 2, 5, 4], direction="max")
    assert [run.name for run in sweep.ranking] == ["run-4", "run-5", "run-2", "run-3", "run-0"]
    _, rows = comparison_table(sweep)
    assert [getattr(row[0], "text", row[0]) for row in rows] == ["run-4", "run-5", "run-2", "run-3", "run-0", "run-1"]
    assert [row[-1].text for row in rows] == ["best", *["finished"] * 4, "failed"]


def test_what_to_do_next_names_the_best_run():
    steps = dict(next_steps(swept([3, 2, 1, 4, 5, 6]), Recipe()))
    assert steps["try it"] == "instil chat runs/x/run-2"
    assert steps["train with it"] == "--optimizer.lr 3e-4 --training.epochs 1"
    assert next_steps(swept([None] * 6), Recipe()) == []
