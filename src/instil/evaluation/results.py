"""The results of an evaluation: figures and answers of a model, alone or against another; what a notebook shows of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from instil.evaluation.cases import Case
from instil.evaluation.comparison import Comparison
from instil.evaluation.contamination import Contamination
from instil.evaluation.heldout import HeldoutLoss
from instil.evaluation.intervals import Interval, in_numbers, show
from instil.generation.prompts import Prompt
from instil.generation.settings import SamplingSettings
from instil.units import counted
from instil.views.html import clipped, escaped, frame, table, warnings
from instil.views.turns import one_line

HELDOUT = "heldout_loss"
"""Name of the paired comparison of losses; the lower loss wins."""
_LOSS = "loss per trained token"


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceFigure:
    """The main figure of a task on a group of prompts."""

    kind: str
    name: str
    task: str
    figure: Interval


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ModelResult:
    """The figures and answers of one model.

    Attributes:
        name: Name of the model, as the user wrote it.
        figures: Figures by task and name.
        details: Further content for the report, by task.
        slices: Main figures of the tasks on groups of prompts.
        heldout: Loss and perplexity on the reference answers; None without references or without a template.
        answers: The answers, in the order of the prompts.
        scores: Scores of every case, by task; None if the task does not apply to the case.
        facts: Template hash, stop tokens, precision, device, seconds and number of tokens.
    """

    name: str
    figures: Mapping[str, Mapping[str, Interval]]
    details: Mapping[str, Mapping[str, Any]]
    slices: Sequence[SliceFigure]
    heldout: HeldoutLoss | None
    answers: Sequence[Case]
    scores: Mapping[str, Sequence[Mapping[str, float] | None]]
    facts: Mapping[str, Any]

    def __repr__(self) -> str:
        """Return name, figures and number of answers, on one line."""
        return one_line("ModelResult", [self.name, *_words(self.figures), counted(len(self.answers), "answer")])

    def _repr_html_(self) -> str:
        """Return what a notebook shows: every figure with its interval, and the slices."""
        body = _figure_table([self], {}) + _slice_table(self.slices)
        return frame(self.name, facts=[counted(len(self.answers), "answer")], body=body)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        data: Source of the prompts.
        prompts: The prompts.
        tasks: Names of the tasks, each with the name of its main figure.
        settings: How answers were sampled.
        model: Result of the model.
        against: Result of the other model, or None.
        comparisons: Main figures of the two models by task, compared pair by pair. `HELDOUT` compares the losses.
        contamination: Overlap with the training data; None if that is unknown.
        length_notes: What the length policy did, one line each: prompts left out or shortened, references not measured.
        versions: Versions of Python and of the packages that influence figures.
    """

    data: str
    prompts: Sequence[Prompt]
    tasks: Mapping[str, str]
    settings: SamplingSettings
    model: ModelResult
    against: ModelResult | None
    comparisons: Mapping[str, Comparison]
    contamination: Contamination | None
    length_notes: Sequence[str]
    versions: Mapping[str, str]

    @property
    def figures(self) -> dict[str, Interval]:
        """The model's main figure of each task, as far as the task applied to a prompt."""
        by_task = self.model.figures
        return {task: by_task[task][main] for task, main in self.tasks.items() if main in by_task[task]}

    def __repr__(self) -> str:
        """Return model, data, number of prompts and main figures, on one line."""
        against = f"against {self.against.name}" if self.against else ""
        figures = [f"{task} {show(self.tasks[task], figure)}" for task, figure in self.figures.items()]
        facts = [f"{self.model.name} on {self.data}", against, counted(len(self.prompts), "prompt"), *figures]
        return one_line("Evaluation", facts)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: every figure with its interval, the comparison, the slices, the warnings."""
        results = [self.model, *([self.against] if self.against else [])]
        mains = {
            f"{task}: {main}": str(self.comparisons[task])
            for task, main in self.tasks.items()
            if task in self.comparisons
        }
        if HELDOUT in self.comparisons:
            mains[_LOSS] = str(self.comparisons[HELDOUT])
        overlap = [] if self.contamination is None else [self.contamination.summary]
        body = [
            warnings(self.length_notes),
            _figure_table(results, mains),
            _slice_table(self.model.slices),
            *(f'<div class="legend">{escaped(clipped(line))}</div>' for line in overlap),
        ]
        facts = [f"{self.model.name} on {self.data}", counted(len(self.prompts), "prompt")]
        return frame("Evaluation", facts=facts, body="".join(body))


def _words(figures: Mapping[str, Mapping[str, Interval]]) -> list[str]:
    return [
        f"{task}: {name} {show(name, figure)}" for task, by_name in figures.items() for name, figure in by_name.items()
    ]


def _figure_table(results: Sequence[ModelResult], compared: Mapping[str, str]) -> str:
    """Return a row for each figure, and a column for each model; with two models, one for the comparison."""
    names = dict.fromkeys(
        (task, name) for result in results for task, figures in result.figures.items() for name in figures
    )
    rows = []
    for task, name in names:
        cells = [
            show(name, result.figures[task][name]) if name in result.figures.get(task, {}) else "" for result in results
        ]
        rows.append([f"{task}: {name}", *cells, *([compared.get(f"{task}: {name}", "")] if len(results) > 1 else [])])
    if any(result.heldout for result in results):
        cells = [_loss(result.heldout) for result in results]
        rows.append([_LOSS, *cells, *([compared.get(_LOSS, "")] if len(results) > 1 else [])])
    head = ["figure", *(result.name for result in results)]
    return table([*head, *(["difference, wins, losses, ties, p"] if len(results) > 1 else [])], rows)


def _loss(heldout: HeldoutLoss | None) -> str:
    if heldout is None:
        return "no template"
    return f"{in_numbers(heldout.loss)}, {counted(heldout.num_tokens, 'token')}, n={heldout.loss.n}"


def _slice_table(slices: Sequence[SliceFigure]) -> str:
    rows = [[f"{group.kind}: {group.name}", group.task, show("", group.figure)] for group in slices]
    return table(["group", "task", "figure"], rows)
