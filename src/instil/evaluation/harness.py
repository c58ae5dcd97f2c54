"""Run EleutherAI's lm-eval on a model through its chat template; needs the extra ``harness``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from instil.errors import EvaluationError, MissingPackageError
from instil.files import new_folders, write_text_atomic
from instil.generation.engine import Engine
from instil.refused_writes import refused_writes


def run_harness(
    engine: Engine,
    tasks: Sequence[str],
    *,
    folder: Path | None = None,
    out: Path | None = None,
    limit: int | None = None,
) -> list[str]:
    """Run lm-eval tasks and write their results.

    Args:
        engine: The model. If it has a chat template, the prompts are rendered with it.
        tasks: Names of lm-eval tasks.
        folder: Folder with your own task files. Only these tasks are then available, and no network is needed.
        out: Folder for ``harness.json``. None: nothing is written.
        limit: Largest number of rows per task.

    Returns:
        One line per figure.

    Raises:
        EvaluationError: If a task is unknown or lm-eval cannot run it.
        MissingPackageError: If lm-eval is not installed.
    """
    try:
        import lm_eval
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError:
        raise MissingPackageError("lm-eval", needed_for="--harness", extra="harness") from None
    if folder is not None and not folder.is_dir():
        raise EvaluationError(f"{folder}: no such folder. Expected lm-eval task files. Check --harness-folder.")
    # lm-eval renders prompts with the tokenizer's own template, so the model's template has to be there.
    if engine.chat is not None:
        engine.tokenizer.chat_template = engine.chat.template.as_published
    manager = TaskManager(include_path=None if folder is None else str(folder), include_defaults=folder is None)
    model = HFLM(pretrained=engine.model, tokenizer=engine.tokenizer, batch_size=8)
    try:
        evaluation = lm_eval.simple_evaluate(
            model=model,
            tasks=list(tasks),
            task_manager=manager,
            limit=limit,
            apply_chat_template=engine.chat is not None,
            log_samples=False,
        )
    except (KeyError, ValueError, OSError) as error:  # what lm-eval raises for unknown tasks and unreadable data
        raise EvaluationError(
            f"--harness {' '.join(tasks)}: lm-eval cannot run it ({' '.join(str(error).split())[:200]}). "
            "Expected names of lm-eval tasks. List them with `lm-eval ls tasks`."
        ) from None
    results: dict[str, Any] = evaluation["results"]
    if out is not None:
        text = json.dumps({"results": results, "versions": evaluation.get("versions")}, indent=1, default=str)
        with refused_writes(out, raises=EvaluationError, otherwise="choose another --out"), new_folders(out):
            write_text_atomic(out / "harness.json", text + "\n")
    # lm-eval mixes figures, their standard errors and texts such as the alias in one mapping.
    return [
        f"{task}: {name} {value:.4f} (standard error {_error(figures, name)})"
        for task, figures in results.items()
        for name, value in figures.items()
        if isinstance(value, float) and "_stderr" not in name
    ]


def _error(figures: dict[str, Any], name: str) -> str:
    metric, _, rest = name.partition(",")
    error = figures.get(f"{metric}_stderr,{rest}")
    return f"{error:.4f}" if isinstance(error, float) else "unknown"
