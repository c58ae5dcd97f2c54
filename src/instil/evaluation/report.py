"""An evaluation as JSON and as Markdown.

The JSON holds everything, the answers included; the Markdown is what one reads or pastes. The page in `report_page` is made
from the JSON.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from instil.data.messages import conversation_to_dict
from instil.errors import EvaluationError
from instil.evaluation.evaluate import HELDOUT, Evaluation, ModelResult
from instil.evaluation.heldout import HeldoutLoss
from instil.evaluation.intervals import Interval
from instil.evaluation.report_page import page
from instil.files import write_text_atomic

IN_HUNDREDS = ("bleu", "chrf")
"""Figures that come in 0…100, not in 0…1."""


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Give an evaluation as JSON values; what is not a number is null."""
    models = [evaluation.model] + ([evaluation.against] if evaluation.against else [])
    overlap = evaluation.contamination
    whole = {
        "data": evaluation.data,
        "num_prompts": len(evaluation.prompts),
        "tasks": dict(evaluation.tasks),
        "settings": asdict(evaluation.settings),
        "versions": dict(evaluation.versions),
        "model": _model(evaluation.model),
        "against": None if evaluation.against is None else _model(evaluation.against),
        "comparisons": {name: asdict(found) for name, found in evaluation.comparisons.items()},
        "contamination": None if overlap is None else asdict(overlap) | {"said": overlap.said},
        "rows": [_row(evaluation, models, number) for number in range(len(evaluation.prompts))],
    }
    cleaned: dict[str, Any] = _without_nan(whole)
    return cleaned


def _model(result: ModelResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "figures": {
            task: {name: asdict(each) for name, each in found.items()} for task, found in result.figures.items()
        },
        "details": {task: dict(found) for task, found in result.details.items()},
        "slices": [asdict(each) for each in result.slices],
        "heldout": None if result.heldout is None else _loss(result.heldout),
        "facts": dict(result.facts),
    }


def _loss(found: HeldoutLoss) -> dict[str, Any]:
    return {name: value for name, value in asdict(found).items() if name != "each"}


def _row(evaluation: Evaluation, models: list[ModelResult], number: int) -> dict[str, Any]:
    prompt = evaluation.prompts[number]
    return {
        "place": None if prompt.place is None else str(prompt.place),
        "turn": prompt.turn,
        "prompt": conversation_to_dict(prompt.conversation)["messages"],
        "reference": prompt.reference_text,
        "answers": [
            {
                "text": result.answers[number].answer.text,
                "finish_reason": result.answers[number].answer.generated.finish_reason,
                "tokens": result.answers[number].answer.generated.num_tokens,
                "seed": result.answers[number].answer.generated.seed,
                "scores": {
                    task: dict(found) for task in evaluation.tasks if (found := result.scores[task][number]) is not None
                },
            }
            for result in models
        ],
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value


def to_markdown(evaluation: Evaluation) -> str:
    """Give an evaluation as Markdown: figures with intervals, comparison, slices, how it was measured."""
    models = [evaluation.model] + ([evaluation.against] if evaluation.against else [])
    lines = [f"# {evaluation.model.name} on {evaluation.data}", "", f"{len(evaluation.prompts)} prompts.", ""]
    names = [result.name for result in models]
    compared = evaluation.against is not None
    extra = ["difference, wins, losses, ties, p"] if compared else []
    lines += _table_head(["figure", *names, *extra])
    for task, figures in evaluation.model.figures.items():
        for name in figures:
            cells = [
                show(name, result.figures[task][name]) if name in result.figures[task] else "" for result in models
            ]
            found = evaluation.comparisons.get(task) if name == evaluation.tasks.get(task) else None
            lines.append(_table_row([f"{task}: {name}", *cells, *([str(found) if found else ""] if compared else [])]))
    lines += _loss_lines(evaluation, models)
    lines += ["", *_slice_lines(evaluation.model), *_contamination_lines(evaluation)]
    lines += ["## How it was measured", ""]
    lines += [f"- {name}: {value}" for name, value in asdict(evaluation.settings).items() if name != "num_answers"]
    for result in models:
        lines.append(f"- {result.name}: " + ", ".join(f"{name} {value}" for name, value in result.facts.items()))
        for task, details in result.details.items():
            lines += [f"- {task}, {kind}: {text}" for kind, text in details.get("signatures", {}).items()]
    lines.append("- versions: " + ", ".join(f"{name} {version}" for name, version in evaluation.versions.items()))
    lines.append("- intervals: 95%, bootstrap (2,000 resamples, seed 0); Wilson's for shares of 0% and 100%")
    return "\n".join(lines) + "\n"


def show(name: str, figure: Interval) -> str:
    """Write a figure with its interval and n.

    Example:
        >>> show("bleu", Interval(31.2, 29.0, 33.4, 200))
        '31.2 [29.0, 33.4] n=200'
    """
    if figure.n == 0:
        return "none"
    if name in IN_HUNDREDS:
        return f"{figure.value:.1f} [{figure.low:.1f}, {figure.high:.1f}] n={figure.n}"
    return f"{figure} n={figure.n}"


def write_report(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write ``evaluation.json``, ``evaluation.md`` and ``evaluation.html`` into a folder.

    Raises:
        EvaluationError: If the folder cannot be written.
    """
    found = to_json(evaluation)
    texts = {
        "evaluation.json": json.dumps(found, ensure_ascii=False, indent=1) + "\n",
        "evaluation.md": to_markdown(evaluation),
        "evaluation.html": page(found),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_text_atomic(folder / name, text, errors="replace")
    except OSError as error:
        raise EvaluationError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from None
    return [folder / name for name in texts]


def _loss_lines(evaluation: Evaluation, models: list[ModelResult]) -> list[str]:
    """Give the rows of loss and perplexity; a model without a template has none."""
    if not any(result.heldout for result in models):
        return []
    loss, perplexity, compared = ["loss per trained token"], ["perplexity"], []
    for result in models:
        found = result.heldout
        loss.append(
            f"{in_numbers(found.loss)}, {found.num_tokens} tokens, n={found.loss.n}" if found else "no template"
        )
        perplexity.append(f"{in_numbers(found.perplexity)}, n={found.perplexity.n}" if found else "")
    if evaluation.against:
        pairs = evaluation.comparisons.get(HELDOUT)
        compared = [str(pairs) if pairs else ""]
    return [_table_row([*loss, *compared]), _table_row([*perplexity, *([""] if evaluation.against else [])])]


def in_numbers(figure: Interval) -> str:
    """Write a figure that is no share.

    Example:
        >>> in_numbers(Interval(1.25, 1.0, 1.5, 10))
        '1.2500 [1.0000, 1.5000]'
    """
    return f"{figure.value:.4f} [{figure.low:.4f}, {figure.high:.4f}]"


def _slice_lines(result: ModelResult) -> list[str]:
    if not result.slices:
        return []
    lines = ["## Slices", "", *_table_head(["group", "task", "figure"])]
    lines += [_table_row([f"{each.kind}: {each.name}", each.task, show("", each.figure)]) for each in result.slices]
    return [*lines, ""]


def _contamination_lines(evaluation: Evaluation) -> list[str]:
    found = evaluation.contamination
    if found is None:
        return []
    lines = ["## Overlap with the training data", "", found.said]
    if found.places:
        lines.append(f"First ones: {', '.join(found.places)}.")
    lines += [f"Not compared with: {reason}." for reason in found.not_compared]
    return [*lines, ""]


def _table_head(cells: list[str]) -> list[str]:
    return [_table_row(cells), "|" + " --- |" * len(cells)]


def _table_row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
