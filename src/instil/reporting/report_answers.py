"""What a model wrote, in a report: sample answers over the steps, and the results of an evaluation with examples."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from instil.errors import RunError
from instil.evaluation.comparison import SetDifference
from instil.evaluation.intervals import Interval
from instil.evaluation.meanings import label_of
from instil.training.records.run_figures import figure_words, figures_from
from instil.views.html import escaped
from instil.views.page_parts import folded, mark, pairs, paragraph, table, text_box

_MOST_PROMPTS, _MOST_STEPS, _MOST_EXAMPLES = 12, 10, 8


def sample_answers(path: Path) -> str:
    """Return the answers to each fixed prompt by step: the first and the last one open, the others folded.

    Raises:
        RunError: If the file cannot be read.
    """
    by_step = _by_step(path)
    if not by_step:
        return ""
    steps = sorted(by_step)
    prompts = max(map(len, by_step.values()))
    parts = []
    for number in range(min(prompts, _MOST_PROMPTS)):
        answers = [(step, by_step[step][number]) for step in steps if number < len(by_step[step])]
        parts.append(f"<h3>Prompt {number + 1}</h3>" + text_box(str(answers[-1][1].get("prompt", ""))))
        parts.append(_answers(answers))
    if prompts > _MOST_PROMPTS:
        parts.append(paragraph(f"{prompts - _MOST_PROMPTS:,} further prompts are in {path.name}.", "soft"))
    return "".join(parts)


def _by_step(path: Path) -> dict[int, list[Mapping[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}). Expected JSON lines. Fix or remove it.") from None
    by_step: dict[int, list[Mapping[str, Any]]] = {}
    for line in text.split("\n"):
        try:
            value = json.loads(line) if line.strip() else None
        except ValueError:  # the last line of a run that was killed
            continue
        if isinstance(value, dict) and isinstance(value.get("step"), int):
            by_step.setdefault(value["step"], []).append(value)
    return by_step


def _answers(answers: Sequence[tuple[int, Mapping[str, Any]]]) -> str:
    between = answers[1:-1]
    every = max(1, -(-len(between) // _MOST_STEPS))
    shown = between[::every]
    more = "" if len(shown) == len(between) else f", of {len(between)}"
    title = f"{len(shown)} answer{'s' if len(shown) > 1 else ''} between them{more}"
    ends = [_answer(*answers[0]), _answer(*answers[-1]) if len(answers) > 1 else ""]
    return ends[0] + folded(title, "".join(_answer(*answer) for answer in shown)) + ends[1]


def _answer(step: int, value: Mapping[str, Any]) -> str:
    cut = " · cut at the longest answer" if value.get("finish_reason") == "length" else ""
    head = f'<p class="soft">{"before training" if step == 0 else f"after step {step:,}"}{cut}</p>'
    return head + text_box(str(value.get("answer", "")) or "(nothing)")


def evaluation_part(evaluation: Mapping[str, Any], *, page: str | None) -> str:
    """Return figures with intervals, against the other model, and examples.

    Args:
        evaluation: The content of evaluation.json.
        page: Relative path of the evaluation's own page, if there is one.
    """
    model, against = evaluation["model"], evaluation.get("against") or {}
    facts = [
        ("data", str(evaluation.get("data", ""))),
        ("prompts", f"{evaluation.get('num_prompts', 0):,}"),
        ("against", str(against.get("name", ""))),
    ]
    overlap = evaluation.get("contamination") or {}
    parts = [mark(str(warning), "warning") for warning in evaluation.get("warnings") or []]
    parts += [pairs([(name, value) for name, value in facts if value]), _figures(evaluation, model, against)]
    parts += [mark(str(note), "note") for note in evaluation.get("length_notes") or []]
    parts.append(paragraph(str(overlap.get("said") or ""), "soft"))
    if page:
        parts.append(f'<p><a href="{escaped(page)}">The page of this evaluation</a> has every answer.</p>')
    rows = [row for row in evaluation.get("rows") or [] if isinstance(row, Mapping)]
    examples = "".join(_example(row, str(against.get("name") or "")) for row in rows[:_MOST_EXAMPLES])
    return "".join(parts) + folded(f"Examples: {min(len(rows), _MOST_EXAMPLES)} of {len(rows):,} prompts", examples)


def _figures(evaluation: Mapping[str, Any], model: Mapping[str, Any], against: Mapping[str, Any]) -> str:
    ours, theirs = _by_name(model), _by_name(against)
    mains = {f"{task}.{main}": task for task, main in (evaluation.get("tasks") or {}).items()}
    rows = []
    for name in dict.fromkeys((*ours, *theirs)):
        cells = [label_of(name), figure_words(ours.get(name), interval=True)]
        if against:
            reason = (evaluation.get("not_compared") or {}).get(name)
            compared = (evaluation.get("comparisons") or {}).get(mains.get(name, ""))
            compared = compared or (evaluation.get("secondary") or {}).get(name)
            words = f"not compared: {reason}" if reason else _compared(compared)
            cells += [figure_words(theirs.get(name), interval=True), words]
        rows.append(cells)
    head = ["figure, 95% interval", str(model.get("name", "the run"))]
    return table([*head, *([str(against.get("name", "")), "what it shows"] if against else [])], rows)


def _by_name(model: Mapping[str, Any]) -> dict[str, Any]:
    figures = {
        f"{task}.{name}": figure
        for task, found in (model.get("figures") or {}).items()
        for name, figure in found.items()
    }
    heldout = model.get("heldout") or {}
    return figures_from(figures | {f"held-out.{name}": heldout[name] for name in ("loss",) if heldout.get(name)})


def _compared(comparison: Any) -> str:
    if not isinstance(comparison, Mapping):
        return ""
    if "wins" not in comparison:  # a figure of all answers together
        return _set_difference(comparison)
    verdict = (comparison.get("verdict") or {}).get("words", "")  # an evaluation of an earlier version has none
    words = f"{comparison['wins']} wins, {comparison['losses']} losses, {comparison['ties']} ties"
    p_value = comparison.get("p_value")
    counts = words if p_value is None else f"{words}, p = {p_value:.2g}"
    return f"{verdict}: {counts}" if verdict else counts


def _set_difference(values: Mapping[str, Any]) -> str:
    difference = values["difference"]
    value, low, high = (math.nan if difference[end] is None else difference[end] for end in ("value", "low", "high"))
    found = SetDifference(Interval(value, low, high, difference["n"]), values["p_value"], values["unit"])
    return f"{found.change}, p = {found.p}".replace("= <", "<") if found.p else found.change


def _example(row: Mapping[str, Any], against: str) -> str:
    prompt = row.get("prompt")
    text = prompt[-1].get("content") if isinstance(prompt, list) and prompt else prompt
    parts = [f"<h3>{escaped(row.get('place') or '')}</h3>", text_box(str(text or ""))]
    if row.get("reference"):
        parts += [paragraph("reference", "soft"), text_box(str(row["reference"]))]
    for number, answer in enumerate(row.get("answers") or []):
        name = "the run's answer" if number == 0 else f"answer of {against}"
        parts += [paragraph(name, "soft"), text_box(str(answer.get("text") or "(nothing)"))]
    return "".join(parts)
