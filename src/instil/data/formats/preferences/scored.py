"""Scored answers: a prompt, a list of answers, and a score of each; also UltraFeedback's original rows.

The best answer makes a pair with each lower one, or with the worst. An answer that is as good as the best makes none.

Why: supervised fine-tuning on such rows is refused. Which of the answers is good enough to imitate is not in the data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from instil.conversation import Conversation, Place
from instil.conversation.message_parts import kind_of
from instil.data.formats.preferences.chosen_rejected import PROMPTS, complete, prompt_names, read_prompt
from instil.data.formats.preferences.pairs import compared
from instil.data.formats.row_format import ReadOptions, RowFormat, cannot_hold, conversation_of, system_in
from instil.data.side_columns import SYSTEM_COLUMNS, with_system
from instil.errors import DataError, FormatError, NoPairError

ANSWERS = ("responses", "completions", "answers")
SCORES = ("scores", "ratings")
_TEXTS = ("response", "completion", "answer", "text", "content")
"""Keys that may hold the text of an answer that is an object."""
_SCORE_KEYS = ("overall_score", "score", "rating", "fine-grained_score")
"""Keys that may hold the score of an answer that is an object, in order of precedence."""
_BROKEN = "Fix or remove the row."


def _columns(row: Any) -> tuple[str, str]:
    """Return the columns of the answers and of the scores; no column of scores where they are in the answers."""
    if not isinstance(row, Mapping):
        return "", ""
    scores = next((name for name in SCORES if isinstance(row.get(name), list)), "")
    for name in ANSWERS:
        answers = row.get(name)
        if isinstance(answers, list) and (scores or _has_scores(answers)):
            return name, scores
    return "", ""


def _has_scores(answers: list[Any]) -> bool:
    first = answers[0] if answers else None
    return isinstance(first, Mapping) and any(key in first for key in (*_SCORE_KEYS, "annotations"))


def _recognise(row: Any) -> str:
    answers, scores = _columns(row)
    prompt = next((name for name in PROMPTS if name in row), "") if answers else ""
    found = ", ".join(name for name in (prompt, answers, scores) if name)
    return f"columns {found}" if found and scores else f"columns {found} with scores" if found else ""


def _read(row: Any, place: Place, options: ReadOptions) -> Sequence[Conversation]:
    answers_column, scores_column = _columns(row)
    if not answers_column:
        found = ", ".join(map(str, row)) if isinstance(row, Mapping) else kind_of(row)
        raise DataError(f"{place}: found {found}. Expected {SCORED.columns}. Fix the row, or set data.format: auto.")
    if options.reading == "sft":
        raise FormatError(
            f"{place}: {answers_column} are scored answers to compare, and none of them is marked as the one to learn. "
            "Expected one answer. Set training.objective: dpo, or write the best answer to a column response."
        )
    answers = row[answers_column]
    if len(answers) < 2:
        raise NoPairError(
            f"{place}: {answers_column} has {len(answers)} of at least 2 answers. Expected a better and a worse one. "
            "Remove the row, or set data.on_bad_row: skip."
        )
    scores = _scores(row, answers_column, scores_column, place)
    ranked = sorted(range(len(answers)), key=lambda number: -scores[number])
    ranked = [ranked[0], *(number for number in ranked if scores[number] < scores[ranked[0]])]
    if len(ranked) == 1:
        raise NoPairError(
            f"{place}: all {len(answers)} answers have the score {scores[0]:g}. Expected a better and a worse one. "
            "Remove the row, or set data.on_bad_row: skip."
        )
    return _read_ranked(row, answers_column, scores_column, ranked, scores, place, options)


def _read_ranked(
    row: Mapping[str, Any],
    answers_column: str,
    scores_column: str,
    ranked: list[int],
    scores: list[float],
    place: Place,
    options: ReadOptions,
) -> Sequence[Conversation]:
    prompt = read_prompt(row, place)
    sides = []
    for number in ranked:
        name = f"{answers_column}[{number}]"
        messages = complete(_answer(row[answers_column][number]), prompt, name, place)
        sides.append(with_system(messages, row, place))
    used = [answers_column, scores_column, *prompt.columns, *system_in(row, place)[1]]
    best = conversation_of(sides[0], row, used, place)
    others = [replace(best, messages=side) for side in sides[1:]]
    return compared(best, others, options, scores=[scores[number] for number in ranked])


def _answer(value: Any) -> Any:
    """Return an answer without its scores: the text of an object that is not a message."""
    if not isinstance(value, Mapping) or not value.keys().isdisjoint(("role", "from")):
        return value
    return next((value[key] for key in _TEXTS if key in value), value)


def _scores(row: Mapping[str, Any], answers_column: str, scores_column: str, place: Place) -> list[float]:
    """Return the score of each answer.

    Raises:
        DataError: If one is missing or not a number, or their number is another than that of the answers.
    """
    answers = row[answers_column]
    if not scores_column:
        return _scores_inside(answers, answers_column, place)
    values = row[scores_column]
    if len(values) != len(answers):
        raise DataError(
            f"{place}: {scores_column} has {len(values)} values for {len(answers)} {answers_column}. "
            f"Expected one each. {_BROKEN}"
        )
    scores = [_number(value) for value in values]
    if None in scores:
        number = scores.index(None)
        raise DataError(
            f"{place}: {scores_column}[{number}] is {values[number]!r:.40}. Expected a finite number. {_BROKEN}"
        )
    return [score for score in scores if score is not None]


def _scores_inside(answers: list[Any], column: str, place: Place) -> list[float]:
    """Return the scores that the answers hold themselves: the first kind that all of them have.

    Why: scores of different kinds cannot be compared, so one answer's total is never held against another's mean.
    """
    for kind in (*_SCORE_KEYS, "annotations"):
        scores = [_score_inside(answer, kind) for answer in answers]
        if None not in scores:
            return [score for score in scores if score is not None]
    raise DataError(
        f"{place}: {column} have no score that all of them share. Expected a number under one of "
        f"{', '.join(_SCORE_KEYS)}, or Ratings in annotations, in each answer. {_BROKEN}"
    )


def _score_inside(answer: Any, kind: str) -> float | None:
    """Return one score of an answer; of ``annotations`` the mean of their ratings."""
    value = answer.get(kind) if isinstance(answer, Mapping) else None
    if kind != "annotations":
        return _number(value)
    notes = value.values() if isinstance(value, Mapping) else ()
    ratings = [_number(note.get("Rating")) for note in notes if isinstance(note, Mapping)]
    numbers = [rating for rating in ratings if rating is not None]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(ratings) else None


def _number(value: Any) -> float | None:
    """Return a finite number, also from text as UltraFeedback has it (``"4"``); None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _write(conversation: Conversation) -> dict[str, Any]:
    raise FormatError(cannot_hold(conversation, "scored", "one answer or a pair", "Use --to preference instead."))


def _reads(row: Mapping[str, Any]) -> Sequence[str]:
    return (*prompt_names(row), *SYSTEM_COLUMNS)


SCORED = RowFormat(
    "scored", f"a prompt, {' or '.join(ANSWERS)}, and {' or '.join(SCORES)}", _recognise, _read, _write, _reads
)
"""Only for objectives that compare answers."""
