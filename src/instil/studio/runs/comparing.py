"""Two or more runs beside each other: results, settings that differ, answers to the same prompts, wins and losses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instil.errors import RunError
from instil.evaluation.meanings import label_of
from instil.evaluation.sign_test import sign_test
from instil.studio.runs.samples import read_samples
from instil.training.records.run_folder import RunPaths

MOST_BYTES = 64 << 20
"""Of an evaluation that a page reads: its answers are in memory while it does."""
PAGE_ANSWERS = 20
"""Prompts on a page."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer of one run to a prompt of an evaluation.

    Attributes:
        text: The answer.
        scores: Its scores, as ``task.figure``.
    """

    text: str
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Beside:
    """A prompt with the answers of all runs.

    Attributes:
        place: Where its row stands.
        prompt: Its last message.
        reference: The answer in the data; empty if there is none.
        answers: An answer of each run; None of a run that was not asked.
    """

    place: str
    prompt: str
    reference: str
    answers: tuple[Answered | None, ...]

    @property
    def differs(self) -> bool:
        """Whether the runs answered differently."""
        return len({answer.text for answer in self.answers if answer}) > 1


@dataclass(frozen=True, slots=True)
class Wins:
    """How often a run scored higher than the first one, on the same prompts.

    Attributes:
        figure: The score's name for people.
        run: Number of the run in the comparison.
        wins: Prompts on which it scored higher than the first run.
        losses: Prompts on which it scored lower.
        ties: Prompts on which both scored the same.
        p_value: Probability of a split at least this uneven by chance.
    """

    figure: str
    run: int
    wins: int
    losses: int
    ties: int
    p_value: float


def read_answers(folder: Path) -> dict[tuple[str, int, str], Beside]:
    """Read the answers of a run's evaluation by place, turn and prompt; empty without an evaluation.

    Raises:
        RunError: If the file is damaged, or too large for a page.
    """
    path = folder / "evaluation" / "evaluation.json"
    if not path.exists():
        return {}
    if path.stat().st_size > MOST_BYTES:
        raise RunError(
            f"{path}: {path.stat().st_size >> 20:,} MB. Expected at most {MOST_BYTES >> 20} MB on this page. "
            "Open evaluation.html beside it."
        )
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        found = {}
        for row in rows:
            prompt = row["prompt"]
            text = json.dumps(prompt, ensure_ascii=False)
            last = prompt[-1].get("content") if isinstance(prompt, list) and prompt else prompt
            answer = row["answers"][0]
            key = str(row.get("place") or ""), int(row.get("turn") or 0), text
            found[key] = Beside(key[0], str(last or ""), str(row.get("reference") or ""), (_answered(answer),))
        return found
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise RunError(
            f"{path}: damaged. Expected rows with answers. Run `instil evaluate` again, or remove it."
        ) from None


def _answered(answer: Mapping[str, Any]) -> Answered:
    scores = {
        f"{task}.{name}": float(value)
        for task, values in (answer.get("scores") or {}).items()
        for name, value in (values or {}).items()
        if isinstance(value, int | float)
    }
    return Answered(str(answer.get("text") or ""), scores)


def beside(folders: Sequence[Path]) -> list[Beside]:
    """Return the prompts that at least two of the runs were asked in their evaluations, in the order of the first."""
    read = [read_answers(folder) for folder in folders]
    found = []
    for key in dict.fromkeys(key for answers in read for key in answers):
        rows = [answers.get(key) for answers in read]
        first = next(row for row in rows if row is not None)
        answers = tuple(row.answers[0] if row else None for row in rows)
        if sum(answer is not None for answer in answers) > 1:
            found.append(Beside(first.place, first.prompt, first.reference, answers))
    return found


def samples_beside(folders: Sequence[Path]) -> list[Beside]:
    """Return the fixed prompts that at least two of the runs have, with the last answer of each run."""
    read: list[dict[str, Answered]] = []
    for folder in folders:
        samples = read_samples(RunPaths(folder).samples, most_steps=2)
        read.append({prompt: Answered(answers[-1].text) for prompt, answers in samples.rows if answers and answers[-1]})
    found = []
    for prompt in dict.fromkeys(prompt for answers in read for prompt in answers):
        answers = tuple(answers.get(prompt) for answers in read)
        if sum(answer is not None for answer in answers) > 1:
            found.append(Beside("", prompt, "", answers))
    return found


def wins_of(rows: Sequence[Beside], num_runs: int) -> list[Wins]:
    """Count for each score how often each run beats the first one.

    Example:
        >>> row = Beside("a:1", "?", "", (Answered("x", {"numeric.numeric": 0.0}), Answered("y", {"numeric.numeric": 1.0})))
        >>> [(wins.figure, wins.wins, wins.losses) for wins in wins_of([row], 2)]
        [('numeric', 1, 0)]
    """
    names = dict.fromkeys(name for row in rows for answer in row.answers if answer for name in answer.scores)
    found = []
    for name in sorted(names, key=lambda name: name.startswith("behaviour.")):
        for run in range(1, num_runs):
            gains = []
            for row in rows:
                ours, first = row.answers[run], row.answers[0]
                if ours and first and name in ours.scores and name in first.scores:
                    gains.append(ours.scores[name] - first.scores[name])
            wins, losses = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
            if gains:
                ties = len(gains) - wins - losses
                found.append(Wins(label_of(name), run, wins, losses, ties, sign_test(wins, losses)))
    return found
