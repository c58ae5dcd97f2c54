"""What an evaluation found, from its `evaluation.json`, without the answers, which may be many megabytes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

REPORT, RESULT = "evaluation.html", "evaluation.json"
_ANSWERS = ' "rows": [\n'
"""The line behind which the answers stand, last in the file; a line of a nested value is indented further."""
LARGEST = 4_000_000
"""Characters that are read of a file before its answers."""


@dataclass(frozen=True, slots=True)
class FigureLine:
    """A figure of an evaluation.

    Attributes:
        name: Task and figure.
        meaning: What it says.
        is_main: Whether it is the figure that its task is judged by.
        values: The figure of each model, with its interval, as text; empty where it has none.
        change: The difference with its interval; empty without a second model.
        verdict: What the comparison shows; empty without one.
    """

    name: str
    meaning: str
    is_main: bool
    values: tuple[str, ...]
    change: str = ""
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class EvaluationEntry:
    """An evaluation of a run.

    Attributes:
        folder: Its folder below the workspace.
        changed: When it was written.
        data: The data it was measured on.
        selection: Which prompts.
        models: Names of the models, the measured one first.
        figures: Its figures.
        warnings: What a reader must know.
        has_report: Whether its page is there.
    """

    folder: str
    changed: datetime
    data: str
    selection: str
    models: tuple[str, ...]
    figures: tuple[FigureLine, ...]
    warnings: tuple[str, ...]
    has_report: bool


def read_evaluation(root: Path, folder: Path) -> EvaluationEntry | None:
    """Return the evaluation in a folder, or None if there is none that can be read."""
    path = folder / RESULT
    try:
        values = json.loads(_without_answers(path))
        results = [values["model"], *([values["against"]] if values.get("against") else [])]
        return EvaluationEntry(
            folder=folder.relative_to(root).as_posix(),
            changed=datetime.fromtimestamp(path.stat().st_mtime).astimezone(),
            data=str(values["data"]),
            selection=str(values["selection"]),
            models=tuple(str(result["name"]) for result in results),
            figures=tuple(_figures(values, results)),
            warnings=tuple(map(str, [*values.get("warnings", ()), *values.get("notes", ())])),
            has_report=(folder / REPORT).is_file(),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def evaluations_of(root: Path, run: Path) -> list[EvaluationEntry]:
    """Return the evaluations in a run's folder, the newest first."""
    folders = [path.parent for path in run.glob(f"*/{RESULT}")] + [path.parent for path in run.glob(f"*/*/{RESULT}")]
    entries = [entry for folder in folders if (entry := read_evaluation(root, folder)) is not None]
    return sorted(entries, key=lambda entry: -entry.changed.timestamp())


def _without_answers(path: Path) -> str:
    lines: list[str] = []
    size = 0
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line == _ANSWERS:
                return "".join(lines).rstrip().removesuffix(",") + "}"
            lines.append(line)
            size += len(line)
            if size > LARGEST:
                break
    return "".join(lines)


def _figures(values: Mapping[str, Any], results: list[Mapping[str, Any]]) -> list[FigureLine]:
    names = dict.fromkeys(
        (task, name) for result in results for task, figures in result["figures"].items() for name in figures
    )
    lines = []
    for task, name in names:
        is_main = values["tasks"].get(task) == name
        compared = values["comparisons"].get(task) if is_main else values.get("secondary", {}).get(f"{task}.{name}")
        lines.append(
            FigureLine(
                f"{task}: {name}" if name != task else task,
                values["meanings"].get(task, {}).get(name, ""),
                is_main,
                tuple(interval(result["figures"].get(task, {}).get(name)) for result in results),
                change="" if compared is None else interval(compared.get("difference"), signed=True),
                verdict="" if compared is None else str((compared.get("verdict") or {}).get("words", "")),
            )
        )
    for name in ("loss", "perplexity"):
        cells = tuple(interval((result.get("heldout") or {}).get(name)) for result in results)
        if any(cells):
            lines.append(FigureLine(f"held-out {name}", "", False, cells))
    return lines


def interval(figure: Mapping[str, Any] | None, *, signed: bool = False) -> str:
    """Return a figure with its 95% interval.

    Example:
        >>> interval({"value": 0.5, "low": 0.25, "high": 0.75, "n": 20}), interval(None)
        ('0.500 [0.250, 0.750]', '')
    """
    if figure is None or figure.get("value") is None:
        return ""
    sign = "+" if signed else ""
    parts = [figure[name] for name in ("value", "low", "high")]
    if any(part is None or not math.isfinite(part) for part in parts):
        return f"{figure['value']:{sign}.3f}"
    value, low, high = (f"{part:{sign}.3f}" for part in parts)
    return f"{value} [{low}, {high}]"
