"""The results of an evaluation: figures and answers of a model, alone or against another; what a notebook shows of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from instil.evaluation.cases import Case
from instil.evaluation.comparability import plain_notes
from instil.evaluation.comparison import Comparison, SetDifference
from instil.evaluation.contamination import Contamination
from instil.evaluation.figure_table import PAIR_HEAD, FigureRow, figure_rows, slice_table
from instil.evaluation.heldout import HeldoutLoss
from instil.evaluation.intervals import Interval, show
from instil.evaluation.meanings import label_of
from instil.evaluation.verdict import Verdict
from instil.generation.prompts import Prompt
from instil.generation.settings import SamplingSettings
from instil.units import counted
from instil.views.html import clipped, escaped, frame, left_out, table, warnings
from instil.views.turns import one_line


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
        has_template: Whether the model was prompted with a chat template; False: it continues plain text.
        not_measured: Figures that the model cannot have, as ``task.figure``, each with the reason.
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
    has_template: bool = True
    not_measured: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return name, figures and number of answers, on one line."""
        return one_line("ModelResult", [self.name, *_words(self.figures), counted(len(self.answers), "answer")])

    def _repr_html_(self) -> str:
        """Return what a notebook shows: every figure with its interval, and the slices."""
        body = _figure_table(figure_rows(_Alone([self])), [self.name]) + _slice_html(self.slices)
        return frame(self.name, facts=[counted(len(self.answers), "answer")], body=body)


def _broken_notes(results: Sequence[ModelResult]) -> Iterator[str]:
    """Yield a line for each model that answered with bytes that are no characters, which look like a fault of the program."""
    for result in results:
        broken = sum("\ufffd" in case.answer.text for case in result.answers)
        if broken:
            yield (
                f"{broken:,} of {counted(len(result.answers), 'answer')} of {result.name} have \ufffd: bytes that are no "
                "character. The tokenizer writes such letters in several tokens, and the model has not learned them yet. "
                "Train longer, or choose a model that knows the language"
            )


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
        comparisons: Main figures of the two models by task, compared pair by pair, each with its verdict. `HELDOUT`
            compares the losses. What is not the same thing in both models is not in here.
        secondary: The other figures of the two models compared pair by pair, as ``task.figure`` or
            `meanings.PERPLEXITY`. Their verdicts are not shown. Figures of all answers together have no wins and losses.
        not_compared: Figures of the two models that are not the same thing, as ``task.figure`` or `meanings.LOSS`, each
            with the reason.
        selection: Which prompts of the data were taken, in words.
        total_prompts: How many prompts the data has; None if they were not counted.
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
    not_compared: Mapping[str, str] = field(default_factory=dict)
    secondary: Mapping[str, Comparison | SetDifference] = field(default_factory=dict)
    selection: str = ""
    total_prompts: int | None = None

    @property
    def models(self) -> list[ModelResult]:
        """The results of one or two models."""
        return [self.model, *([self.against] if self.against else [])]

    @property
    def warnings(self) -> list[str]:
        """What is wrong with the figures as a whole: prompts that were trained on."""
        return [text for text in [self.contamination.warning if self.contamination else ""] if text]

    @property
    def notes(self) -> list[str]:
        """What a reader has to know of the figures: templates, answers that are no text, and what the length policy did."""
        return [*plain_notes(*self.models), *_broken_notes(self.models), *self.length_notes]

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """What each comparison shows, by task; `HELDOUT` has the losses'."""
        return {name: comparison.verdict for name, comparison in self.comparisons.items()}

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
        overlap = [] if self.contamination is None else [self.contamination.summary]
        body = [
            warnings([*self.warnings, *self.notes]),
            _figure_table(figure_rows(self), [result.name for result in self.models]),
            _slice_html(self.model.slices),
            *(f'<div class="legend">{escaped(clipped(line))}</div>' for line in overlap),
        ]
        facts = [f"{self.model.name} on {self.data}", self.selection or counted(len(self.prompts), "prompt")]
        return frame("Evaluation", facts=facts, body="".join(body))


def _words(figures: Mapping[str, Mapping[str, Interval]]) -> list[str]:
    return [
        f"{label_of(f'{task}.{name}')} {show(name, figure)}"
        for task, by_name in figures.items()
        for name, figure in by_name.items()
    ]


@dataclass(frozen=True, slots=True)
class _Alone:
    """One model's result, where an evaluation is asked for."""

    models: Sequence[ModelResult]
    tasks: Mapping[str, str] = field(default_factory=dict)
    comparisons: Mapping[str, Comparison] = field(default_factory=dict)
    secondary: Mapping[str, Comparison | SetDifference] = field(default_factory=dict)
    not_compared: Mapping[str, str] = field(default_factory=dict)


def _figure_table(rows: Sequence[FigureRow], names: Sequence[str]) -> str:
    """Return a row for each figure, and a column for each model; with two models, the comparison too."""
    is_compared = len(names) > 1
    head = [
        "figure",
        *names,
        *([*PAIR_HEAD, "verdict"] if is_compared else []),
        "meaning",
    ]
    lines = []
    for row in rows:
        compared = [*row.pair_cells, row.verdict] if is_compared else []
        lines.append([row.label, *map(str, row.cells), *compared, row.meaning])
    return table(head, lines)


def _slice_html(slices: Sequence[SliceFigure]) -> str:
    shown = slice_table(slices)
    title = f"<b>{escaped(shown.title)}</b>" if slices else ""
    return title + table(shown.head, shown.rows) + (left_out(shown.folded_words) if shown.folded else "")
