"""The classification task: accuracy, macro-F1 and confusion matrix.

The labels are the distinct references of the data. A sentence that names exactly one label counts as that label.
An answer that names none, or more than one, is ``(none)`` and always wrong.

Why: a tuned model may answer "It is positive." instead of the bare label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from instil.evaluation.cases import Case, Scores
from instil.evaluation.comparison import SetDifference
from instil.evaluation.intervals import Interval, resampled_interval
from instil.evaluation.matching import named_in, normalise

NO_LABEL = "(none)"


def label_in(text: str, labels: Sequence[str]) -> str:
    """Return the label that an answer names, or ``(none)``.

    Example:
        >>> label_in("It is Positive.", ["positive", "negative"]), label_in("both", ["positive", "negative"])
        ('positive', '(none)')
    """
    plain = normalise(text)
    if plain in labels:
        return plain
    named = named_in(plain, labels)
    return labels[named[0]] if len(named) == 1 else NO_LABEL


def labels_of(cases: Sequence[Case]) -> list[str]:
    """Return the normalised references, sorted, without duplicates."""
    return sorted({normalise(case.reference) for case in cases if case.reference})


def make_judge(labels: Sequence[str]) -> Callable[[Case], Scores | None]:
    """Return a judge for these labels."""

    def judge(case: Case) -> Scores | None:
        if not case.reference:
            return None
        chosen = label_in(case.prediction, labels)
        return {"accuracy": float(chosen == normalise(case.reference)), "has_label": float(chosen != NO_LABEL)}

    return judge


def macro_f1(cases: Sequence[Case]) -> Mapping[str, Interval]:
    """Return the unweighted mean of the labels' F1."""
    judged = [case for case in cases if case.reference]
    return {"macro_f1": resampled_interval(len(judged), _mean_f1(judged))}


def macro_f1_difference(ours: Sequence[Case], theirs: Sequence[Case]) -> Mapping[str, SetDifference]:
    """Return the difference of two models' macro-F1. Both are computed on the same resampled prompts."""
    first, second = ([case for case in cases if case.reference] for cases in (ours, theirs))
    our_f1, their_f1 = _mean_f1(first), _mean_f1(second)
    difference = resampled_interval(len(first), lambda rows: our_f1(rows) - their_f1(rows))
    return {"macro_f1": SetDifference(difference, None, "share")}


def _mean_f1(judged: Sequence[Case]) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from indices of cases, [n] or [resamples, n], to the mean of the labels' F1."""
    labels = labels_of(judged)
    index = {label: number for number, label in enumerate([*labels, NO_LABEL])}
    expected = np.array([index[normalise(case.reference or "")] for case in judged])
    chosen = np.array([index[label_in(case.prediction, labels)] for case in judged])

    def statistic(rows: np.ndarray) -> np.ndarray:
        scores = []
        for label in range(len(labels)):
            is_expected, is_chosen = expected[rows] == label, chosen[rows] == label
            num_right = (is_expected & is_chosen).sum(axis=-1)
            total = is_expected.sum(axis=-1) + is_chosen.sum(axis=-1)
            # A label that occurs in a resample neither as reference nor as answer is left out of the mean.
            scores.append(np.where(total > 0, 2 * num_right / np.maximum(total, 1), np.nan))
        mean: np.ndarray = np.nanmean(np.stack(scores), axis=0)
        return mean

    return statistic


def confusion(cases: Sequence[Case]) -> Mapping[str, Any]:
    """Return the confusion matrix: a row for each reference label, a column for each chosen label."""
    labels = labels_of(cases)
    columns = [*labels, NO_LABEL]
    counts = Counter((normalise(case.reference), label_in(case.prediction, labels)) for case in cases if case.reference)
    return {
        "labels": columns,
        "confusion": [[counts[expected, chosen] for chosen in columns] for expected in labels],
    }
