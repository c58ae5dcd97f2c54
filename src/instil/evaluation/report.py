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
from instil.evaluation.comparison import Comparison, SetDifference
from instil.evaluation.figure_table import PAIR_HEAD, figure_rows, model_words, sampling_words, slice_table
from instil.evaluation.heldout import HeldoutLoss
from instil.evaluation.meanings import FIGURES, LOSSES
from instil.evaluation.report_page import page
from instil.evaluation.results import Evaluation, ModelResult
from instil.files import new_folders, write_texts_atomic
from instil.refused_writes import refused_writes
from instil.units import counted

METHOD = (
    "intervals: 95%, bootstrap with 2,000 resamples and seed 0; Wilson's interval for shares of 0% and 100%",
    "p: exact sign test on wins and losses (McNemar's test for right and wrong); below 0.05 a difference is shown",
    "BLEU, chrF, macro-F1: of all answers together, so no prompt wins or loses; difference of the same resampled prompts, "
    "p by sacreBLEU's paired bootstrap test (1,000 resamples); chrF's difference has no interval, macro-F1's no p",
    "prompts needed: for 80% power at 5% (Connor 1987), from the share of prompts on which the models differ here",
)
"""How intervals, p-values and numbers of prompts are computed."""


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as JSON values; figures that are not finite become null."""
    models = evaluation.models
    overlap = evaluation.contamination
    values = {
        "data": evaluation.data,
        "num_prompts": len(evaluation.prompts),
        "total_prompts": evaluation.total_prompts,
        "selection": selection_of(evaluation),
        "tasks": dict(evaluation.tasks),
        "settings": asdict(evaluation.settings),
        "versions": dict(evaluation.versions),
        "model": _model(evaluation.model),
        "against": None if evaluation.against is None else _model(evaluation.against),
        "comparisons": {name: asdict(comparison) for name, comparison in evaluation.comparisons.items()},
        "secondary": {name: _without_verdict(comparison) for name, comparison in evaluation.secondary.items()},
        "not_compared": dict(evaluation.not_compared),
        "meanings": {task: dict(FIGURES.get(task, {})) for task in evaluation.model.figures} | {"losses": dict(LOSSES)},
        "warnings": evaluation.warnings,
        "notes": evaluation.notes,
        "length_notes": list(evaluation.length_notes),
        "contamination": None if overlap is None else asdict(overlap) | {"said": overlap.summary},
        "rows": [_row(evaluation, models, number) for number in range(len(evaluation.prompts))],
    }
    cleaned: dict[str, Any] = _without_nan(values)
    return cleaned


def _without_verdict(comparison: Comparison | SetDifference) -> dict[str, Any]:
    return {name: value for name, value in asdict(comparison).items() if name != "verdict"}


def _model(result: ModelResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "figures": {
            task: {name: asdict(figure) for name, figure in figures.items()} for task, figures in result.figures.items()
        },
        "details": {task: dict(details) for task, details in result.details.items()},
        "slices": [asdict(slice_figure) for slice_figure in result.slices],
        "heldout": None if result.heldout is None else _loss(result.heldout),
        "has_template": result.has_template,
        "not_measured": dict(result.not_measured),
        "facts": dict(result.facts),
    }


def _loss(heldout: HeldoutLoss) -> dict[str, Any]:
    return {name: value for name, value in asdict(heldout).items() if name not in ("per_conversation", "trained")}


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
    results = evaluation.models
    against = f", against {evaluation.against.name}" if evaluation.against else ""
    lines = [f"# {evaluation.model.name} on {evaluation.data}{against}", ""]
    lines += [f"{_first_upper(selection_of(evaluation))}. Figures have 95% intervals.", ""]
    lines += [line for warning in evaluation.warnings for line in (f"**Warning:** {warning}", "")]
    lines += [line for note in evaluation.notes for line in (f"**Note:** {note}.", "")]
    rows = figure_rows(evaluation)
    # With a second model the table has columns for the comparison; only main figures have a verdict.
    is_compared = evaluation.against is not None
    extra = [*PAIR_HEAD, "verdict"] if is_compared else []
    lines += _table_head(["figure", *(result.name for result in results), *extra])
    for row in rows:
        compared = [*row.pair_cells, row.verdict] if is_compared else []
        lines.append(_table_row([row.label, *map(str, row.cells), *compared]))
    lines += ["", "## What the figures mean", ""]
    lines += [f"- {row.label}: {row.meaning}" for row in rows if row.meaning]
    lines += ["", *_slice_lines(evaluation.model), *_contamination_lines(evaluation)]
    lines += ["## How it was measured", "", f"- answers: {sampling_words(evaluation.settings)}"]
    for result in results:
        lines.append(f"- {result.name}: {model_words(result)}")
        for task, details in result.details.items():
            lines += [f"- {task}, {kind}: {text}" for kind, text in details.get("signatures", {}).items()]
    lines.append("- versions: " + ", ".join(f"{name} {version}" for name, version in evaluation.versions.items()))
    lines += [f"- {line}" for line in METHOD]
    return "\n".join(lines) + "\n"


def selection_of(evaluation: Evaluation) -> str:
    """Return which prompts of the data were measured, in words."""
    return evaluation.selection or counted(len(evaluation.prompts), "prompt")


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def write_report(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write ``evaluation.json``, ``evaluation.md`` and ``evaluation.html`` into a folder: all of them or none.

    Raises:
        EvaluationError: If a file cannot be written. An earlier report is as it was then.
    """
    values = to_json(evaluation)
    texts = {
        "evaluation.json": json.dumps(values, ensure_ascii=False, indent=1) + "\n",
        "evaluation.md": to_markdown(evaluation),
        "evaluation.html": page(evaluation, values, method=METHOD),
    }
    with refused_writes(folder, raises=EvaluationError, otherwise="choose another --out"), new_folders(folder):
        write_texts_atomic({folder / name: text for name, text in texts.items()})
    return [folder / name for name in texts]


def _slice_lines(result: ModelResult) -> list[str]:
    shown = slice_table(result.slices)
    if not result.slices:
        return []
    lines = [f"## {shown.title}", ""]
    lines += [*_table_head(shown.head), *(_table_row(list(row)) for row in shown.rows)] if shown.rows else []
    return [*lines, "", *([f"In evaluation.html: {shown.folded_words}.", ""] if shown.folded else [])]


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
