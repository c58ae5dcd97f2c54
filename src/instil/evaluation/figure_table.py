"""The figures of an evaluation as rows of texts: what the terminal, the Markdown, the page and a notebook show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Protocol

from instil.evaluation.comparability import Measured
from instil.evaluation.comparison import Comparison, SetDifference
from instil.evaluation.intervals import Interval, texts_of
from instil.evaluation.meanings import LOSS, LOSSES, PERPLEXITY, label_of, meaning_of
from instil.evaluation.verdict import Kind
from instil.generation.settings import SamplingSettings
from instil.units import counted, loss_words

HELDOUT = "heldout_loss"
"""Name of the paired comparison of losses; the lower loss wins."""
LEAST_IN_SLICE = 20
"""Groups with fewer prompts are folded: their intervals say nothing."""


class Result(Measured, Protocol):
    """What is asked of a model's result here (`results.ModelResult`)."""

    @property
    def figures(self) -> Mapping[str, Mapping[str, Interval]]:
        """Figures by task and name."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """Template hash, stop tokens, precision, device, seconds and number of tokens."""


class Compared(Protocol):
    """What is asked of an evaluation here (`results.Evaluation`)."""

    @property
    def models(self) -> Sequence[Result]:
        """Results of one or two models."""

    @property
    def tasks(self) -> Mapping[str, str]:
        """Names of the tasks, each with the name of its main figure."""

    @property
    def comparisons(self) -> Mapping[str, Comparison]:
        """Main figures compared pair by pair, by task."""

    @property
    def secondary(self) -> Mapping[str, Comparison | SetDifference]:
        """The other figures compared pair by pair, as `task.figure` or `meanings.PERPLEXITY`."""

    @property
    def not_compared(self) -> Mapping[str, str]:
        """Figures that are not the same thing in both models, each with the reason."""


class Group(Protocol):
    """What is asked of the figure of a group of prompts (`results.SliceFigure`)."""

    @property
    def kind(self) -> str:
        """Property by which prompts are grouped."""

    @property
    def name(self) -> str:
        """Its value in this group."""

    @property
    def task(self) -> str:
        """The task."""

    @property
    def figure(self) -> Interval:
        """The task's main figure on the group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure of one model as texts.

    Attributes:
        value: The figure, or why there is none.
        interval: Its 95% interval; empty without a figure.
        n: Number of cases.
    """

    value: str
    interval: str = ""
    n: int = 0

    def __str__(self) -> str:
        return f"{self.value} {self.interval} n={self.n}" if self.interval else self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRow:
    """A figure of one or two models.

    Attributes:
        key: `task.figure`, `meanings.LOSS` or `meanings.PERPLEXITY`.
        label: Its name for people.
        meaning: What it means, in one line.
        cells: The figure of each model.
        comparison: The two models compared pair by pair; None if this figure is not compared.
        is_main: Whether the figure represents its task. Only such a figure has a verdict.
        not_compared: Why two models are not compared, if this figure is not the same thing in both.
    """

    key: str
    label: str
    meaning: str
    cells: tuple[Figure, ...]
    comparison: Comparison | SetDifference | None = None
    is_main: bool = True
    not_compared: str = ""

    @property
    def verdict(self) -> str:
        """What the comparison shows, or why there is none; empty for one model and for secondary figures."""
        if isinstance(self.comparison, Comparison):
            return str(self.comparison.verdict) if self.is_main else ""
        return f"not compared: {self.not_compared}" if self.not_compared else ""

    @property
    def kind(self) -> Kind | None:
        """Kind of the verdict; None without one."""
        return self.comparison.verdict.kind if isinstance(self.comparison, Comparison) and self.is_main else None

    @property
    def pair_cells(self) -> list[str]:
        """Difference, counts and p-value of the two models, as texts; why there are none in the first."""
        if self.comparison is not None:
            return [self.comparison.change, self.comparison.counts, self.comparison.p]
        return ["not compared" if self.not_compared else "", "", ""]


PAIR_HEAD = ("difference", "wins / losses / ties", "p")
"""The heads of `FigureRow.pair_cells`."""


def figure_rows(evaluation: Compared) -> list[FigureRow]:
    """Return a row for each figure that any of the models has, the losses last."""
    results = evaluation.models
    names = dict.fromkeys(
        (task, name)
        for result in results
        for task, figures in result.figures.items()
        for name in (*figures, *_missing(result, task))
    )
    rows = []
    for task, name in names:
        key = f"{task}.{name}"
        is_main = evaluation.tasks.get(task) == name
        compared: Comparison | SetDifference | None = (
            evaluation.comparisons.get(task) if is_main else evaluation.secondary.get(key)
        )
        rows.append(
            FigureRow(
                key=key,
                label=label_of(key),
                meaning=meaning_of(task, name),
                cells=tuple(_figure(result, task, name) for result in results),
                comparison=None if key in evaluation.not_compared else compared,
                is_main=is_main,
                not_compared=evaluation.not_compared.get(key, "") if len(results) > 1 else "",
            )
        )
    return [*rows, *_loss_rows(evaluation, results)]


def short_names(names: Sequence[str]) -> list[str]:
    """Return names for the heads of columns: the last part of a path, where that tells them apart.

    Example:
        >>> short_names(["work/runs/gsm8k", "demo"]), short_names(["a/model", "b/model"])
        (['gsm8k', 'demo'], ['a/model', 'b/model'])
    """
    short = [PurePath(name).name or name for name in names]
    return short if len(set(short)) == len(short) else list(names)


def _missing(result: Result, task: str) -> list[str]:
    """Return the figures of a task that a model cannot have."""
    return [name for key in result.not_measured for owner, _, name in [key.partition(".")] if owner == task]


def _figure(result: Result, task: str, name: str) -> Figure:
    figure = result.figures.get(task, {}).get(name)
    if figure is not None:
        return shown(name, figure)
    return Figure(value=result.not_measured.get(f"{task}.{name}", "none"))


def shown(name: str, figure: Interval) -> Figure:
    """Return a figure as texts; shares in percent.

    Example:
        >>> str(shown("bleu", Interval(31.2, 29.0, 33.4, 200))), str(shown("numeric", Interval(0.5, 0.25, 0.75, 8)))
        ('31.2 [29.0, 33.4] n=200', '50.0% [25.0%, 75.0%] n=8')
    """
    if figure.n == 0:
        return Figure(value="none")
    value, interval = texts_of(name, figure)
    return Figure(value=value, interval=interval, n=figure.n)


def _loss_rows(evaluation: Compared, results: Sequence[Result]) -> list[FigureRow]:
    """Return the rows of loss and perplexity; none if no model has a loss."""
    if not any(result.heldout for result in results):
        return []
    losses, perplexities = [], []
    for result in results:
        heldout = result.heldout
        if heldout is None:
            losses.append(Figure(value="no trained token" if result.has_template else "no template"))
            perplexities.append(Figure(value="none"))
        else:
            losses.append(_number(heldout.loss))
            perplexities.append(_number(heldout.perplexity))
    reason = evaluation.not_compared.get(LOSS, "") if len(results) > 1 else ""
    compared = evaluation.comparisons.get(HELDOUT)
    return [
        FigureRow(
            key=LOSS,
            label=LOSS,
            meaning=LOSSES[LOSS],
            cells=tuple(losses),
            comparison=compared if not reason else None,
            not_compared=reason,
        ),
        FigureRow(
            key=PERPLEXITY,
            label=PERPLEXITY,
            meaning=LOSSES[PERPLEXITY],
            cells=tuple(perplexities),
            comparison=evaluation.secondary.get(PERPLEXITY) if not reason else None,
            is_main=False,
            not_compared=reason,
        ),
    ]


def _number(figure: Interval) -> Figure:
    value, low, high = (
        loss_words(number) if number < 1_000 else f"{number:,.0f}" for number in (figure.value, figure.low, figure.high)
    )
    return Figure(value=value, interval=f"[{low}, {high}]", n=figure.n)


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceTable:
    """The figures of groups of prompts, one row a group.

    Attributes:
        tasks: The tasks that have a figure there, in order.
        rows: Group, number of prompts and the figure of each task, as texts.
        folded: The same of groups with fewer than `LEAST_IN_SLICE` prompts.
    """

    tasks: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    folded: tuple[tuple[str, ...], ...]

    @property
    def title(self) -> str:
        """The heading of the table, with the tasks that are measured in it."""
        return f"Groups of prompts: {', '.join(self.tasks)}" if self.tasks else "Groups of prompts"

    @property
    def head(self) -> list[str]:
        """The heads of the columns."""
        return ["group", "prompts", *self.tasks]

    @property
    def folded_words(self) -> str:
        """How many groups are folded, in words; empty if none is."""
        if not self.folded:
            return ""
        return f"{counted(len(self.folded), 'group')} with fewer than {LEAST_IN_SLICE} prompts"


def slice_table(slices: Sequence[Group]) -> SliceTable:
    """Return the slices of a model as a table, with one row for each group instead of one for each task of it."""
    tasks = tuple(dict.fromkeys(group.task for group in slices))
    groups: dict[tuple[str, str], dict[str, Interval]] = {}
    for group in slices:
        groups.setdefault((group.kind, group.name), {})[group.task] = group.figure
    large: list[tuple[str, ...]] = []
    small: list[tuple[str, ...]] = []
    for (kind, name), figures in groups.items():
        n = max(figure.n for figure in figures.values())
        cells = [_without_n(figures[task]) if task in figures else "" for task in tasks]
        (large if n >= LEAST_IN_SLICE else small).append((f"{kind}: {name}", f"{n:,}", *cells))
    return SliceTable(tasks=tasks, rows=tuple(large), folded=tuple(small))


def _without_n(figure: Interval) -> str:
    words = shown("", figure)
    return f"{words.value} {words.interval}".strip()


def sampling_words(settings: SamplingSettings) -> str:
    """Return how the answers were sampled, in words.

    A setting that changes nothing is left out: with temperature 0 the likeliest token is taken, whatever the others say.
    """
    words = "the likeliest token each time" if not settings.temperature else f"temperature {settings.temperature:g}"
    parts = [words, f"at most {settings.max_new_tokens:,} new tokens"]
    if settings.temperature:
        limits = (("top_p", settings.top_p, 1.0), ("top_k", settings.top_k, 0), ("min_p", settings.min_p, 0.0))
        parts += [f"{name} {value:g}" for name, value, neutral in limits if value not in (None, neutral)]
        parts.append(f"seed {settings.seed}")
    if settings.stop:
        parts.append(f"cut at {', '.join(map(repr, settings.stop))}")
    penalties = (
        ("repetition_penalty", settings.repetition_penalty, 1.0),
        ("presence_penalty", settings.presence_penalty, 0.0),
        ("frequency_penalty", settings.frequency_penalty, 0.0),
    )
    parts += [f"{name} {value:g}" for name, value, neutral in penalties if value != neutral]
    return ", ".join(parts)


def model_words(result: Result) -> str:
    """Return what is to know of a model's run, in words: template, stop tokens, precision, device, time."""
    facts = result.facts
    template = facts.get("template")
    stops = [str(token) for token in facts.get("stop_tokens", ()) if token]
    parts = [
        f"chat template {str(template)[:12]}"
        if template
        else "no chat template: continues plain text, cut at a line break",
        f"stops on {', '.join(stops)}" if stops and template else "",
        f"{facts.get('precision', '')} on {facts.get('device', '')}" if facts.get("precision") else "",
        f"{counted(int(facts['generated_tokens']), 'token')} in {facts['seconds']:.0f} s" if "seconds" in facts else "",
    ]
    return "; ".join(part for part in parts if part)
