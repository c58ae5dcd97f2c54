"""The page of an evaluation: one HTML file with verdicts, figures, plot, groups, and all answers side by side.

The answers are drawn by the page's script from JSON, as text and never as HTML. The rest is here, as HTML whose texts
are escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import PurePath
from typing import Any

from instil.evaluation.figure_table import (
    PAIR_HEAD,
    FigureRow,
    figure_rows,
    model_words,
    sampling_words,
    short_names,
    slice_table,
)
from instil.evaluation.report_page.plot import plot
from instil.evaluation.results import Evaluation, ModelResult
from instil.views.html import escaped
from instil.views.page import html_page
from instil.views.page_parts import folded, mark, pairs, table, titled


def page(evaluation: Evaluation, values: Mapping[str, Any], *, method: Sequence[str]) -> str:
    """Return the HTML page of an evaluation.

    Args:
        evaluation: The evaluation.
        values: The same as JSON values (`report.to_json`); its rows are the answers.
        method: How intervals, p-values and numbers of prompts are computed, one line each.
    """
    results = evaluation.models
    names = short_names([result.name for result in results])
    rows = figure_rows(evaluation)
    title = f"{evaluation.model.name} on {PurePath(evaluation.data).name or evaluation.data}"
    against = f" against {evaluation.against.name}" if evaluation.against else ""
    warnings = "".join(mark(warning, "warning") for warning in evaluation.warnings)
    notes = warnings + "".join(mark(note, "note") for note in evaluation.notes)
    parts = [
        titled("What it shows", name="verdicts", content=notes + _verdicts(rows, is_compared=len(results) > 1)),
        titled("Figures", name="figures", content=plot(evaluation, names) + _figures(rows, names)),
        titled(slice_table(evaluation.model.slices).title, name="groups", content=_groups(results, names)),
        titled("Labels", name="labels", content=_matrices(results)),
        titled("Overlap with the training data", name="overlap", content=_overlap(evaluation)),
        titled("Answers", name="answers", content=_part("answers.html")),
        titled("How it was measured", name="method", content=_method(evaluation, results, method)),
    ]
    head = f"<h1>{escaped(title)}{escaped(against)}</h1>"
    facts = f'<p class="facts">{escaped(values["selection"])} · {escaped(evaluation.data)}</p>'
    body = f'<main class="report evaluation">{head}{facts}{"".join(parts)}</main>'
    data = {
        "names": names,
        "tasks": dict(evaluation.tasks),
        "not_compared": [
            task for task, main in evaluation.tasks.items() if f"{task}.{main}" in evaluation.not_compared
        ],
        "rows": values["rows"],
    }
    return html_page(f"{title}{against}", body=body, style=_part("page.css"), script=_part("page.js"), data=data)


def _verdicts(rows: Sequence[FigureRow], *, is_compared: bool) -> str:
    """Return what each figure shows, with what it means beside it."""
    lines = []
    for row in rows:
        text = row.verdict if is_compared else " ".join([row.cells[0].value, row.cells[0].interval]).strip()
        style = {"better": "good", "worse": "error"}.get(row.kind or "", "")
        lines.append(
            f'<dt>{escaped(row.label)}</dt><dd>{f"""<b class="{style}">{escaped(text)}</b>""" if text else ""}'
            f'<span class="soft">{escaped(row.meaning)}</span></dd>'
        )
    return f'<dl class="pairs verdicts">{"".join(lines)}</dl>' if lines else ""


def _figures(rows: Sequence[FigureRow], names: Sequence[str]) -> str:
    is_compared = len(names) > 1
    lines = [[row.label, *map(str, row.cells), *(row.pair_cells if is_compared else [])] for row in rows]
    return table(["figure", *names, *(PAIR_HEAD if is_compared else [])], lines)


def _groups(results: Sequence[ModelResult], names: Sequence[str]) -> str:
    parts = []
    for result, name in zip(results, names, strict=True):
        shown = slice_table(result.slices)
        small = table(shown.head, shown.folded, numbers=[1])
        body = table(shown.head, shown.rows, numbers=[1]) + folded(shown.folded_words, small)
        if body:
            parts.append((f"<h3>{escaped(name)}</h3>" if len(results) > 1 else "") + body)
    return "".join(parts)


def _matrices(results: Sequence[ModelResult]) -> str:
    parts = []
    for result in results:
        for details in result.details.values():
            if "confusion" not in details:
                continue
            labels = [str(label) for label in details["labels"]]
            counts = [[label, *map(str, line)] for label, line in zip(labels, details["confusion"], strict=False)]
            parts.append(f"<h3>{escaped(result.name)}: reference label (rows) and chosen label (columns)</h3>")
            parts.append(table(["", *labels], counts, numbers=range(1, len(labels) + 1)))
    return "".join(parts)


def _overlap(evaluation: Evaluation) -> str:
    overlap = evaluation.contamination
    if overlap is None:
        return ""
    places = f"First overlapping prompts: {', '.join(overlap.places)}." if overlap.places else ""
    lines = [overlap.summary, places, *(f"Not compared with: {reason}" for reason in overlap.not_compared)]
    return "".join(f"<p>{escaped(line)}</p>" for line in lines if line)


def _method(evaluation: Evaluation, results: Sequence[ModelResult], method: Sequence[str]) -> str:
    rows = [("answers", sampling_words(evaluation.settings))]
    rows += [(result.name, model_words(result)) for result in results]
    rows += [(name.strip(), text.strip()) for name, _, text in (line.partition(":") for line in method)]
    versions = ", ".join(f"{name} {version}" for name, version in evaluation.versions.items())
    details = [("versions", versions)]
    details += [(f"{result.name}: template", str(result.facts.get("template"))) for result in results]
    details += [
        (f"{result.name}: {task}, {kind}", str(text))
        for result in results
        for task, found in result.details.items()
        for kind, text in found.get("signatures", {}).items()
    ]
    return pairs(rows) + folded("versions and fingerprints", pairs(details))


def _part(name: str) -> str:
    return resources.files("instil.evaluation.report_page").joinpath(name).read_text(encoding="utf-8")
