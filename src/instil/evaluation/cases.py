"""The records of an evaluation: a prompt with its answer, the scores, and a task that computes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from instil.evaluation.comparison import SetDifference
from instil.evaluation.intervals import Interval
from instil.generation.engine import Answer
from instil.generation.prompts import Prompt

Scores: TypeAlias = Mapping[str, float]
"""Scores of one case by name; higher is better."""


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt with its reference, and the model's answer to it.

    Attributes:
        prompt: The prompt, with the reference answer if the data has one.
        answer: The model's answer.
    """

    prompt: Prompt
    answer: Answer

    @property
    def prediction(self) -> str:
        """The text of the answer, without reasoning and tool calls."""
        return self.answer.content

    @property
    def reference(self) -> str | None:
        """The text of the reference answer; None if the data has none."""
        return self.prompt.reference_text

    @property
    def columns(self) -> Mapping[str, Any]:
        """Further columns of the row (choices, tests, constraints …)."""
        return self.prompt.conversation.extra


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A way to judge answers.

    Attributes:
        name: Name on the command line.
        summary: What the task measures, in a few words.
        main: The figure that represents the task in comparisons.
        judge: Returns a case's scores, or None if the task does not apply to the case (no reference, no choices …).
        corpus_figures: Returns figures that exist for a set of cases only (BLEU, macro-F1).
        corpus_differences: Compares such figures of two models on the same prompts, in the same order.
        details: Returns further content for the report (confusion matrix, signatures).
    """

    name: str
    summary: str
    main: str
    judge: Callable[[Case], Scores | None]
    corpus_figures: Callable[[Sequence[Case]], Mapping[str, Interval]] | None = None
    corpus_differences: Callable[[Sequence[Case], Sequence[Case]], Mapping[str, SetDifference]] | None = None
    details: Callable[[Sequence[Case]], Mapping[str, Any]] | None = None
