"""Measures a model on prompts as a user asks for it: with tasks that fit, and the overlap with its training data.

Python and the command line both come here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from instil.evaluation.contamination import Contamination, overlap_with_training
from instil.evaluation.evaluate import evaluate
from instil.evaluation.judge import Judge
from instil.evaluation.preference import PREFERENCE, has_pairs, read_pairs
from instil.evaluation.results import Evaluation
from instil.evaluation.tasks import TaskOptions, suggest_tasks
from instil.generation.engine import Engine
from instil.generation.prompt_length import TooLongPrompt
from instil.generation.prompts import Prompt, Selection
from instil.generation.settings import SamplingSettings
from instil.model.folder.location import run_folder
from instil.recipe import Recipe


def measure(
    engine: Engine,
    prompts: Sequence[Prompt],
    *,
    tasks: Sequence[str] | None,
    data: str,
    against: Engine | None = None,
    settings: SamplingSettings | None = None,
    options: TaskOptions | None = None,
    too_long: TooLongPrompt = "drop",
    selection: Selection | None = None,
    source: Any = None,
    judge: Judge | None = None,
    on_answer: Callable[[], None] = lambda: None,
    on_note: Callable[[str], object] = lambda _: None,
) -> Evaluation:
    """Evaluate a model; see `evaluate`.

    Args:
        engine: The model.
        prompts: The prompts, with their references.
        tasks: Names of tasks; None or empty for those that fit the data.
        data: Name of the data in the report.
        against: A model to compare with.
        settings: How answers are sampled.
        options: Options of some tasks.
        too_long: What to do with a prompt that is too long for one of the models.
        selection: Which prompts of the data these are. Default: all of them.
        source: What the prompts were read from, for the task ``preference``; None for prompts without pairs.
        judge: Says which of two answers is better; needs `against`.
        on_answer: Called after each answer.
        on_note: Called with a line for each training source that could not be compared with the prompts.
    """
    run = None if engine.location is None else run_folder(engine.location)
    compares = source is not None and (PREFERENCE in (tasks or ()) or (not tasks and has_pairs(prompts)))
    chosen = [*(tasks or suggest_tasks(prompts)), *([PREFERENCE] if compares and not tasks else [])]
    return evaluate(
        engine,
        prompts,
        tasks=chosen,
        pairs=read_pairs(source, prompts) if compares else None,
        judge=judge,
        data=data,
        against=against,
        settings=settings,
        options=options,
        contamination=_contamination(prompts, run, on_note),
        too_long=too_long,
        selection=selection,
        on_answer=on_answer,
    )


def _contamination(
    prompts: Sequence[Prompt], run: Path | None, on_note: Callable[[str], object]
) -> Contamination | None:
    """Compare the prompts with the run's training data. A missing source is reported, and the others are compared."""
    if run is None:
        return None
    recipe = Recipe.load_saved(run)
    if not recipe.data.sources:
        return None
    contamination = overlap_with_training(prompts, recipe)
    for reason in contamination.not_compared:
        on_note(f"overlap with the training data not measured: {reason}")
    return contamination
