"""Write an evaluation as JSON and as Markdown.

The JSON contains everything, including the answers. The Markdown is for reading and pasting. `report_page` makes its
page from the JSON.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from instil.data.messages import conversation_to_dict
from instil.errors import EvaluationError
from instil.evaluation.heldout import HeldoutLoss
from instil.evaluation.intervals import in_numbers, show
from instil.evaluation.report_page import page
from instil.evaluation.results import HELDOUT, Evaluation, ModelResult
from instil.files import new_folders, write_texts_atomic
from instil.refused_writes import refused_writes


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as JSON values; figures that are not finite become null."""
    models = [evaluation.model] + ([evaluation.against] if evaluation.against else [])
    overlap = evaluation.contamination
    values = {
        "data": evaluation.data,
        "num_prompts": len(evaluation.prompts),
        "tasks": dict(evaluation.tasks),
        "settings": asdict(evaluation.settings),
        "versions": dict(evaluation.versions),
        "model": _model(evaluation.model),
        "against": None if evaluation.against is None else _model(evaluation.against),
        "comparisons": {name: asdict(comparison) for name, comparison in evaluation.comparisons.items()},
        "length_notes": list(evaluation.length_notes),
        "contamination": None if overlap is None else asdict(overlap) | {"said": overlap.summary},
        "rows": [_row(evaluation, models, number) for number in range(len(evaluation.prompts))],
    }
    cleaned: dict[str, Any] = _without_nan(values)
    return cleaned


def _model(result: ModelResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "figures": {
            task: {name: asdict(figure) for name, figure in figures.items()} for task, figures in result.figures.items()
        },
        "details": {task: dict(details) for task, details in result.details.items()},
        "slices": [asdict(slice_figure) for slice_figure in result.slices],
        "heldout": None if result.heldout is None else _loss(result.heldout),
        "facts": dict(result.facts),
    }


def _loss(heldout: HeldoutLoss) -> dict[str, Any]:
    return {name: value for name, value in asdict(heldout).items() if name != "per_conversation"}


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
                    task: dict(scores)
                    for task in evaluation.tasks
                    if (scores := result.scores[task][number]) is not None
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
    """Return an evaluation as Markdown: figures with intervals, comparison, slices and how it was measured."""
    models = [evaluation.model] + ([evaluation.against] if evaluation.against else [])
    lines = [f"# {evaluation.model.name} on {evaluation.data}", "", f"{len(evaluation.prompts)} prompts.", ""]
    lines += [line for note in evaluation.length_notes for line in (f"**Warning:** {note}.", "")]
    names = [result.name for result in models]
    # With a second model the table has a last column for the comparison, which only main figures fill.
    is_compared = evaluation.against is not None
    extra = ["difference, wins, losses, ties, p"] if is_compared else []
    lines += _table_head(["figure", *names, *extra])
    for task, figures in evaluation.model.figures.items():
        for name in figures:
            # The other model may lack a figure, for instance if no answer of it could be judged.
            cells = [
                show(name, result.figures[task][name]) if name in result.figures[task] else "" for result in models
            ]
            comparison = evaluation.comparisons.get(task) if name == evaluation.tasks.get(task) else None
            compared = [str(comparison) if comparison else ""] if is_compared else []
            lines.append(_table_row([f"{task}: {name}", *cells, *compared]))
    lines += _loss_lines(evaluation, models)
    lines += ["", *_slice_lines(evaluation.model), *_contamination_lines(evaluation)]
    lines += ["## How it was measured", ""]
    # `num_answers` is always 1 here.
    lines += [f"- {name}: {value}" for name, value in asdict(evaluation.settings).items() if name != "num_answers"]
    for result in models:
        lines.append(f"- {result.name}: " + ", ".join(f"{name} {value}" for name, value in result.facts.items()))
        for task, details in result.details.items():
            lines += [f"- {task}, {kind}: {text}" for kind, text in details.get("signatures", {}).items()]
    lines.append("- versions: " + ", ".join(f"{name} {version}" for name, version in evaluation.versions.items()))
    lines.append("- intervals: 95%, bootstrap (2,000 resamples, seed 0); Wilson's interval for shares of 0% and 100%")
    return "\n".join(lines) + "\n"


def write_report(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write ``evaluation.json``, ``evaluation.md`` and ``evaluation.html`` into a folder: all of them or none.

    Raises:
        EvaluationError: If a file cannot be written. An earlier report is as it was then.
    """
    values = to_json(evaluation)
    texts = {
        "evaluation.json": json.dumps(values, ensure_ascii=False, indent=1) + "\n",
        "evaluation.md": to_markdown(evaluation),
        "evaluation.html": page(values),
    }
    with refused_writes(folder, raises=EvaluationError, otherwise="choose another --out"), new_folders(folder):
        write_texts_atomic({folder / name: text for name, text in texts.items()})
    return [folder / name for name in texts]


def _loss_lines(evaluation: Evaluation, models: list[ModelResult]) -> list[str]:
    """Return the table rows of loss and perplexity; they are missing if no model has a loss."""
    if not any(result.heldout for result in models):
        return []
    loss, perplexity, compared = ["loss per trained token"], ["perplexity"], []
    for result in models:
        heldout = result.heldout
        if heldout is None:
            loss.append("no template")
            perplexity.append("")
            continue
        loss.append(f"{in_numbers(heldout.loss)}, {heldout.num_tokens} tokens, n={heldout.loss.n}")
        perplexity.append(f"{in_numbers(heldout.perplexity)}, n={heldout.perplexity.n}")
    if evaluation.against:
        pairs = evaluation.comparisons.get(HELDOUT)
        compared = [str(pairs) if pairs else ""]
    return [_table_row([*loss, *compared]), _table_row([*perplexity, *([""] if evaluation.against else [])])]


def _slice_lines(result: ModelResult) -> list[str]:
    if not result.slices:
        return []
    lines = ["## Slices", "", *_table_head(["group", "task", "figure"])]
    lines += [
        _table_row([f"{group.kind}: {group.name}", group.task, show("", group.figure)]) for group in result.slices
    ]
    return [*lines, ""]


def _contamination_lines(evaluation: Evaluation) -> list[str]:
    overlap = evaluation.contamination
    if overlap is None:
        return []
    lines = ["## Overlap with the training data", "", overlap.summary]
    if overlap.places:
        lines.append(f"First overlapping prompts: {', '.join(overlap.places)}.")
    lines += [f"Not compared with: {reason}" for reason in overlap.not_compared]
    return [*lines, ""]


def _table_head(cells: list[str]) -> list[str]:
    return [_table_row(cells), "|" + " --- |" * len(cells)]


def _table_row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
