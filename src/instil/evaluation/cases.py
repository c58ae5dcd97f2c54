"""What is judged: a prompt and its answer, and what a judgement looks like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from instil.evaluation.intervals import Interval
from instil.generation.engine import Answer
from instil.generation.prompts import Prompt

Scores: TypeAlias = Mapping[str, float]
"""A case's figures by name; higher is better."""


@dataclass(frozen=True, slots=True)
class Case:
    """One prompt, what the model answered, and what it should have.

    Attributes:
        prompt: What was asked, with the reference.
        answer: What was said.
    """

    prompt: Prompt
    answer: Answer

    @property
    def prediction(self) -> str:
        """The answer's text, without reasoning and calls."""
        return self.answer.content

    @property
    def reference(self) -> str | None:
        """What the data says, or None."""
        return self.prompt.reference_text

    @property
    def columns(self) -> Mapping[str, Any]:
        """The row's further columns (choices, tests, constraints …)."""
        return self.prompt.conversation.extra


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One way of judging answers.

    Attributes:
        name: As typed on the command line.
        summary: What it measures, for people.
        main: The figure that stands for the task in comparisons.
        judge: Gives a case's scores, or None where the task does not apply to it (no reference, no choices …).
        whole: Gives figures that only a set of cases has (BLEU, macro-F1).
        details: Gives what else belongs into the report (confusion matrix, signatures).
    """

    name: str
    summary: str
    main: str
    judge: Callable[[Case], Scores | None]
    whole: Callable[[Sequence[Case]], Mapping[str, Interval]] | None = None
    details: Callable[[Sequence[Case]], Mapping[str, Any]] | None = None
