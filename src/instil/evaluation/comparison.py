"""Compare two models on the same prompts: how often each wins, and whether the difference could be chance.

The p-value comes from the exact sign test on wins and losses, without ties. For scores of 0 and 1 this is McNemar's
exact test.

Why: pairs reveal smaller differences than two averages can, since a hard prompt is hard for both models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from instil.evaluation.intervals import Interval, resampled_interval
from instil.evaluation.sign_test import sign_test
from instil.evaluation.verdict import Unit, Verdict, verdict_of
from instil.units import loss_words


@dataclass(frozen=True, slots=True)
class Comparison:
    """Scores of two models on the same prompts, compared pair by pair.

    Attributes:
        wins: Prompts on which the first model scored higher.
        losses: Prompts on which it scored lower.
        ties: Prompts on which both scored the same.
        difference: Mean difference, first minus second, with its paired bootstrap interval.
        p_value: Probability of wins and losses at least this uneven if neither model is better; 1 if all are ties.
        verdict: What this shows, in words.
        unit: Unit of the difference: a share, which texts show in points, nats per trained token, or a perplexity.
    """

    wins: int
    losses: int
    ties: int
    difference: Interval
    p_value: float
    verdict: Verdict
    unit: Unit = "share"

    @property
    def change(self) -> str:
        """The difference with its interval, in the unit of the figures beside it.

        Where all pairs tie there is no interval: resampling finds no spread, which is not certainty.
        """
        if not self.wins + self.losses:
            return "0.0 points, all tied" if self.unit == "share" else "0.0000, all tied"
        values = (self.difference.value, self.difference.low, self.difference.high)
        if self.unit != "share":
            value, low, high = (f"{'-' if number < 0 else '+'}{loss_words(abs(number))}" for number in values)
            return f"{value} [{low}, {high}]"
        value, low, high = (f"{100 * number:+.1f}" for number in values)
        return f"{value} points [{low}, {high}]"

    @property
    def counts(self) -> str:
        """Wins, losses and ties."""
        return f"{self.wins:,} / {self.losses:,} / {self.ties:,}"

    @property
    def p(self) -> str:
        """The p-value with two digits."""
        return p_words(self.p_value)

    def __str__(self) -> str:
        """Return the verdict and what it rests on, on one line."""
        p = self.p if self.p.startswith("<") else f"= {self.p}"
        return f"{self.verdict}: {self.change}, {self.wins} wins, {self.losses} losses, {self.ties} ties, p {p}"


@dataclass(frozen=True, slots=True)
class SetDifference:
    """A figure of all answers together, such as BLEU, of two models on the same prompts.

    No prompt wins or loses, since a prompt has no such figure.

    Attributes:
        difference: First model minus second, with its paired bootstrap interval; the ends are NaN without one.
        p_value: Probability of a difference at least this large by chance, where the metric's library tests it.
        unit: ``share``, which texts show in points, or ``hundreds``: from 0 to 100 already.
    """

    difference: Interval
    p_value: float | None
    unit: Literal["share", "hundreds"]

    @property
    def change(self) -> str:
        """The difference with its interval, in the unit of the figures beside it.

        Example:
            >>> SetDifference(Interval(0.12, 0.03, 0.2, 40), None, "share").change
            '+12.0 points [+3.0, +20.0]'
            >>> SetDifference(Interval(3.21, float("nan"), float("nan"), 40), 0.01, "hundreds").change
            '+3.2'
        """
        scale, words = (100, " points") if self.unit == "share" else (1, "")
        value, low, high = (
            f"{scale * number:+.1f}" for number in (self.difference.value, self.difference.low, self.difference.high)
        )
        # Where resampling finds no spread, the answers are the same; that is not certainty.
        has_interval = self.difference.low < self.difference.high
        return f"{value}{words} [{low}, {high}]" if has_interval else f"{value}{words}"

    @property
    def counts(self) -> str:
        """Empty: no prompt wins or loses."""
        return ""

    @property
    def p(self) -> str:
        """The p-value with two digits; empty without one."""
        return "" if self.p_value is None else p_words(self.p_value)


def p_words(p_value: float) -> str:
    """Return a p-value with two digits.

    Example:
        >>> p_words(0.04321), p_words(1e-6)
        ('0.043', '< 0.0001')
    """
    return "< 0.0001" if p_value < 0.0001 else f"{p_value:.2g}"


def compare(ours: Sequence[float], theirs: Sequence[float]) -> Comparison:
    """Compare the scores of two models on the same prompts, in the same order.

    Example:
        >>> result = compare([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0])
        >>> result.wins, result.losses, result.ties, result.p_value
        (5, 0, 1, 0.0625)
    """
    if len(ours) != len(theirs):
        raise ValueError(
            f"scores: found {len(ours)} and {len(theirs)}. Expected two models scored on the same prompts. "
            "Pass one score per prompt for each model."
        )
    differences = np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    change = resampled_interval(len(differences), lambda rows: differences[rows].mean(axis=-1))
    p_value = sign_test(wins, losses)
    verdict = verdict_of(differences.tolist(), difference=change, p_value=p_value)
    return Comparison(wins, losses, len(differences) - wins - losses, change, p_value, verdict)


def compare_losses(
    ours: Sequence[tuple[float, float]],
    theirs: Sequence[tuple[float, float]],
    *,
    unit: Literal["nats", "perplexity"] = "nats",
) -> Comparison | None:
    """Compare the losses of two models on the same conversations; the lower loss per trained token wins.

    A conversation without trained weight in one of the models is left out.

    Args:
        ours: For each conversation its sum of weighted losses and its trained weight.
        theirs: The same of the other model, in the same order.
        unit: Whether the difference is that of the losses or that of the perplexities. The verdict is the losses'.

    Returns:
        Wins, losses and ties by conversation, with the difference per trained token. None without a pair.

    Example:
        >>> result = compare_losses([(10.0, 10.0), (4.0, 2.0), (0.0, 0.0)], [(15.0, 10.0), (5.0, 2.0), (3.0, 1.0)])
        >>> result.wins, result.losses, result.difference.value
        (2, 0, -0.5)
    """
    pairs = np.array([(*a, *b) for a, b in zip(ours, theirs, strict=True) if a[1] > 0 and b[1] > 0])
    if not len(pairs):
        return None
    our_sums, our_weights, their_sums, their_weights = pairs.T

    def difference(rows: np.ndarray, of: Callable[[np.ndarray], np.ndarray] = lambda loss: loss) -> np.ndarray:
        our_loss = our_sums[rows].sum(-1) / our_weights[rows].sum(-1)
        their_loss = their_sums[rows].sum(-1) / their_weights[rows].sum(-1)
        change: np.ndarray = of(our_loss) - of(their_loss)
        return change

    differences = our_sums / our_weights - their_sums / their_weights
    wins, losses = int((differences < 0).sum()), int((differences > 0).sum())
    interval = resampled_interval(len(pairs), difference)
    p_value = sign_test(wins, losses)
    verdict = verdict_of((-differences).tolist(), difference=interval, p_value=p_value, unit="nats")
    if unit == "perplexity":
        interval = resampled_interval(len(pairs), lambda rows: difference(rows, np.exp))
    return Comparison(wins, losses, len(pairs) - wins - losses, interval, p_value, verdict, unit)
