"""What a sweep would do: each run's plan, and the sums. ``instil plan`` shows it, and a sweep makes it before its runs.

Why: a mistake in the last run's settings is found before the first run, not after a night.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from instil.errors import EvaluationError, RecipeError, nearest
from instil.evaluation.during_training import check_tasks
from instil.evaluation.meanings import label_of
from instil.evaluation.tasks import TASKS, TaskOptions
from instil.recipe import Recipe
from instil.screen import work
from instil.sweeps.names import run_names, shown_value
from instil.sweeps.space import ACCURACY, HELDOUT, LOSSES, OF_RUNS, Range, Space, read_space, with_settings
from instil.training.disk_space import DiskNeed, disk_warnings
from instil.training.run_plan import RunPlan, plan_run
from instil.units import byte_size, counted, duration


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What a sweep would do.

    Attributes:
        folder: The sweep's folder.
        space: What varies.
        runs: The plan of each run by its name. Of a search, that of one trial.
    """

    folder: Path
    space: Space
    runs: dict[str, RunPlan]

    @property
    def num_runs(self) -> int:
        """How many runs there will be."""
        return self.space.num_runs

    @property
    def seconds(self) -> float:
        """Estimated time of training of all runs; in a search, as if all trials were alike."""
        return sum(plan.seconds for plan in self.runs.values()) * self.num_runs / len(self.runs)

    @property
    def disk_bytes(self) -> int:
        """Bytes that all runs write together."""
        return sum(plan.disk.total for plan in self.runs.values()) * self.num_runs // len(self.runs)

    @property
    def num_stores(self) -> int:
        """How many different prepared stores the runs use."""
        return len({plan.prepared.folder for plan in self.runs.values()})

    @property
    def notes(self) -> list[str]:
        """The notes of the runs, each once."""
        return list(dict.fromkeys(note for plan in self.runs.values() for note in plan.notes))

    @property
    def warnings(self) -> list[str]:
        """The warnings of the runs, each once, and whether the disk has room for all of them."""
        texts = [warning.text for plan in self.runs.values() for warning in plan.warnings if warning.kind != "disk"]
        return list(dict.fromkeys([*texts, *self.disk_warnings()]))

    def facts(self) -> list[tuple[str, str]]:
        """Return the plan's sums as names and texts."""
        varied = [
            f"{name}: {values if isinstance(values, Range) else ', '.join(map(shown_value, values))}"
            for name, values in self.space.values.items()
        ]
        how = "" if self.space.search is None else " of a search by Optuna, one after the other"
        stores = "one for all runs" if self.num_stores == 1 else f"{self.num_stores} for these runs"
        return [
            ("runs", f"{counted(self.num_runs, 'run')}{how}"),
            ("vary", "\n".join(varied)),
            ("best by", f"{label_of(self.space.best_by)} ({'lowest' if self.space.direction == 'min' else 'highest'})"),
            ("prepared data", stores),
            ("disk", f"{byte_size(self.disk_bytes)} in all"),
            ("time", f"about {duration(self.seconds)} of training in all on this device"),
        ]

    def rows(self) -> list[list[str]]:
        """Return a row for each run: name, steps, tokens, memory, time."""
        return [
            [name, f"{plan.steps:,}", f"{plan.tokens:,}", byte_size(plan.fit.memory.peak), duration(plan.seconds)]
            for name, plan in self.runs.items()
        ]

    def lines(self) -> list[str]:
        """Return the plan as lines for people."""
        facts = [f"{name:<14} {text}" for name, value in self.facts() for text in value.split("\n")]
        rows = [f"{name:<32} {steps} steps, about {time}" for name, steps, _, _, time in self.rows()]
        return [*facts, *rows, *(f"{'warning':<14} {text}" for text in self.warnings)]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values; `plans` has that of each run, of a search that of one trial."""
        return {
            "output": str(self.folder),
            "runs": self.num_runs,
            "best_by": self.space.best_by,
            "direction": self.space.direction,
            "search": self.space.search,
            "seconds": self.seconds,
            "disk": self.disk_bytes,
            "stores": self.num_stores,
            "notes": self.notes,
            "warnings": self.warnings,
            "plans": {name: plan.to_json() for name, plan in self.runs.items()},
        }

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def disk_warnings(self) -> list[str]:
        """Return a warning if the disk does not hold all runs together."""
        if not disk_warnings(DiskNeed(0, 0, self.disk_bytes), self.folder):
            return []
        return [
            f"{self.folder}: {counted(self.num_runs, 'run')} write {byte_size(self.disk_bytes)} in all, more than the "
            "disk has free. Free some space, set another output, lower checkpoint.keep_last, or name fewer values"
        ]


def resolved_space(recipe: Recipe) -> Space:
    """Return what a recipe's sweep varies, with the figure that its runs are compared by.

    Raises:
        RecipeError: As `read_space`, and if that is no loss, task or figure.
    """
    space = read_space(recipe)
    return replace(space, best_by=_figure_of(space.best_by))


def _figure_of(best_by: str) -> str:
    if best_by in OF_RUNS:
        return best_by
    task, dot, _ = best_by.partition(".")
    try:
        check_tasks([task])
    except EvaluationError:
        names = [*OF_RUNS, *TASKS]
        raise RecipeError(
            f"sweep.best_by: found {best_by!r}{nearest(best_by, names)}. Expected one of {', '.join(names)}, or a "
            "figure of a task such as behaviour.no_repeats. Fix it."
        ) from None
    return best_by if dot else f"{task}.{TASKS[task](TaskOptions()).main}"


def base_recipe(recipe: Recipe, space: Space) -> Recipe:
    """Return the recipe that the runs share; it measures the task that they are compared by."""
    base = with_settings(recipe, {})
    task = space.best_by.partition(".")[0]
    if space.best_by in OF_RUNS or task in base.evaluate.tasks:
        return base
    return base.override({"evaluate.tasks": [*base.evaluate.tasks, task]})


def sweep_folder(recipe: Recipe) -> Path:
    """Return the sweep's folder, which is the recipe's `output`."""
    return Path(recipe.output.replace("{name}", "run"))


def plan_sweep(recipe: Recipe, *, say: Callable[[str], None]) -> SweepPlan:
    """Plan every run of a sweep, or one trial of a search. The data is prepared as for training.

    Args:
        recipe: The recipe with its sweep.
        say: Prints a line of the data's ledger for the user, once for each store.

    Raises:
        InstilError: If the sweep, or settings, data, template or model of a run are wrong.
    """
    space = resolved_space(recipe)
    base, folder = base_recipe(recipe, space), sweep_folder(recipe)
    points = [space.first()] if space.search else list(space.combinations())
    names = ["trial"] if space.search else run_names(points)
    plans: dict[str, RunPlan] = {}
    stores: set[Path] = set()
    with work("checking the runs", total=len(points), unit="runs") as bar:
        for name, settings in zip(names, points, strict=True):
            lines: list[str] = []
            plans[name] = plan_run(with_settings(base, {**settings, "output": str(folder / name)}), say=lines.append)
            store = plans[name].prepared.folder
            if store not in stores:
                for line in lines:
                    say(line)
            stores.add(store)
            bar.advance(1)
    if space.best_by == HELDOUT and any(not len(plan.prepared.heldout) for plan in plans.values()):
        raise RecipeError(
            "sweep.best_by: no row is held out, so the runs have no held-out loss to be compared by. Expected held-out "
            "rows. Set data.heldout or data.heldout_share, or compare by the training loss: --best-by loss."
        )
    plan = SweepPlan(folder, space, plans)
    _check_effect(plan)
    _check_preferences(plan)
    return plan


def _check_preferences(plan: SweepPlan) -> None:
    """Raise if runs have no accuracy to be compared by, or losses that do not mean the same.

    Raises:
        RecipeError: With what they can be compared by.
    """
    best_by, runs = plan.space.best_by, list(plan.runs.values())
    if best_by == ACCURACY:
        if any(run.recipe.training.objective == "sft" for run in runs):
            raise RecipeError(
                "sweep.best_by: found heldout_accuracy, the share of pairs that are won, but with training.objective: sft "
                "nothing is compared. Expected a loss or a task. Choose one, or set training.objective: dpo."
            )
        if any(not len(run.prepared.heldout) for run in runs):
            raise RecipeError(
                "sweep.best_by: found heldout_accuracy, but no row is held out. Expected held-out rows. Set data.heldout "
                "or data.heldout_share."
            )
    changed = [name for name in plan.space.values if name == "training.objective" or name.startswith("preference.")]
    if best_by in LOSSES and changed:
        raise RecipeError(
            f"sweep.best_by: found {best_by}, but {changed[0]} changes what the loss measures, so the lowest one says "
            "nothing. Expected a figure that means the same in every run. Add --best-by heldout_accuracy, or a task."
        )


def _check_effect(plan: SweepPlan) -> None:
    """Raise if a setting that varies has no effect in any run.

    Raises:
        RecipeError: With the setting that overrules it.
    """
    recipes = [run.recipe for run in plan.runs.values()]
    for name in plan.space.values:
        if name.startswith("adapter.") and all(recipe.adapter.kind == "none" for recipe in recipes):
            raise RecipeError(
                f"sweep: {name} has no effect: no run trains an adapter. Expected adapter.kind: lora. Add --adapter lora."
            )
        if name == "training.epochs" and all(recipe.training.max_steps is not None for recipe in recipes):
            raise RecipeError(
                "sweep: training.epochs has no effect: training.max_steps decides the length of every run. Expected one "
                "of them. Remove max_steps."
            )
