"""A run as a notebook shows it: its settings, its curve, its results; also while it goes on, or after it was stopped.

Why: what is damaged in the folder is named in the view. A notebook cell that only shows a run must not raise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from instil.errors import InstilError
from instil.recipe import Recipe, objective_words, source_name, unit_of
from instil.training.records.loss_figure import points_of
from instil.training.records.metrics import read_metrics
from instil.units import byte_size, counted, duration, loss_words
from instil.views.curve import loss_svg
from instil.views.html import frame, left_out, table, warnings
from instil.views.turns import one_line

_LATEST = 10
"""Held-out losses in the table; the curve has all of them."""


def run_line(folder: Path, state: str, metrics: Path) -> str:
    """Return a run on one line: folder, state, steps and latest losses."""
    if not folder.exists():
        return one_line("Run", [str(folder), "not found: the folder is gone, or the working directory has changed"])
    lines, problems = _read(metrics)
    return one_line("Run", [str(folder), state, *_figures(lines), *(["metrics damaged"] if problems else [])])


def run_html(folder: Path, state: str, metrics: Path, results: Mapping[str, Any]) -> str:
    """Return a run as HTML.

    Args:
        folder: The run folder.
        state: Whether it is finished, in words.
        metrics: Its `metrics.jsonl`.
        results: The content of its `results.json`; empty if it has none.
    """
    lines, problems = _read(metrics)
    settings: list[tuple[str, str]] = []
    try:
        settings = main_settings(Recipe.load_saved(folder))
    except InstilError as error:
        problems.append(str(error))
    heldout = points_of(lines, "heldout_loss")
    curve = loss_svg(points_of(lines, "loss"), heldout)
    body = [
        warnings([*problems, *warning_texts(results)]),
        curve or left_out("no step yet"),
        '<div class="tables">',
        table(["setting", "value"], settings),
        table(["result", "value"], result_rows(results)),
        table(["held-out after step", "loss"], _heldout(heldout)),
        "</div>",
    ]
    return frame(f"Run {folder}", facts=[state, *_figures(lines)], body="".join(body))


def _read(metrics: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the lines of metrics, and what is wrong with the file."""
    try:
        return read_metrics(metrics), []
    except InstilError as error:
        return [], [str(error)]


def _figures(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    losses, heldout, won = (points_of(lines, name) for name in ("loss", "heldout_loss", "heldout_accuracy"))
    steps = max(
        (int(line["step"]) for line in lines if "loss" in line and isinstance(line.get("step"), int)), default=0
    )
    return [
        counted(steps, "step"),
        f"loss {loss_words(losses[-1][1])}" if losses else "",
        f"held-out {loss_words(heldout[-1][1])}" if heldout else "",
        f"{won[-1][1]:.1%} of held-out pairs won" if won else "",
    ]


def main_settings(recipe: Recipe) -> list[tuple[str, str]]:
    """Return the settings that a person asks for first; the others are in the run's recipe.yaml."""
    adapter, training, optimizer = recipe.adapter, recipe.training, recipe.optimizer
    length = counted(training.max_steps, "step") if training.max_steps else f"{training.epochs:g} epochs"
    objective = objective_words(training.objective, recipe.preference)
    return [
        ("model", str(recipe.model.name)),
        ("data", ", ".join(source_name(source.path) for source in recipe.data.sources)),
        ("trains", "every weight" if adapter.kind == "none" else f"{adapter.kind}, rank {adapter.rank}"),
        *([("objective", objective)] if training.objective != "sft" else []),
        ("length", f"{length} of {counted(training.batch_size, unit_of(training.objective))}"),
        ("optimizer", f"{optimizer.name}, learning rate {optimizer.lr or 0:g}, {optimizer.schedule}"),
        ("precision", training.precision),
        ("seed", str(training.seed)),
    ]


def _heldout(points: Sequence[tuple[float, float]]) -> list[tuple[str, str]]:
    trained = [point for point in points if point[0] > 0]
    best = min(trained, key=lambda point: point[1], default=None)
    latest = [
        (f"{step:,}", loss_words(loss) + (" (lowest)" if (step, loss) == best else ""))
        for step, loss in points[-_LATEST:]
    ]
    earlier = f"{len(points) - _LATEST:,} earlier ones"
    return [(earlier, "on the curve"), *latest] if len(points) > _LATEST else latest


def result_rows(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and value of each result, in words."""

    def words(name: str) -> str | None:
        value = results.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        if name.endswith("seconds"):
            return duration(value)
        if name.endswith("_mb"):
            return byte_size(value * 2**20)
        if name == "heldout_accuracy":
            return f"{value:.1%}"
        return f"{value:,}" if isinstance(value, int) else loss_words(value) if "loss" in name else f"{value:,.1f}"

    names = {
        "loss": "last training loss",
        "heldout_loss": "last held-out loss",
        "heldout_accuracy": "held-out pairs won",
        "best_heldout_loss": "lowest held-out loss",
        "best_step": "step of the lowest",
        "written_model_loss": "loss of the written model on a few examples",
        "examples": "examples or pairs in the set",
        "examples_seen": "examples or pairs seen in all steps",
        "trained_tokens": "trained tokens",
        "tokens": "tokens",
        "steps_left_out": "steps left out",
        "training_seconds": "time in steps",
        "tokens_per_second": "tokens a second",
        "peak_rss_mb": "peak memory",
    }
    return [(title, value) for name, title in names.items() if (value := words(name)) is not None]


def warning_texts(results: Mapping[str, Any]) -> list[str]:
    """Return the warnings in the content of results.json or ledger.json."""
    found = results.get("warnings")
    return [str(item.get("text")) for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []
