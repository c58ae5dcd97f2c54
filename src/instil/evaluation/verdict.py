"""Say in words what a paired comparison shows, and how many prompts would show the difference that it does not.

A difference is shown if the sign test's p-value is below 0.05. Where none is shown, the verdict names the number of
prompts with which a difference of 5 points would be shown in 4 of 5 such comparisons.

Why: "p = 0.6" reads as "equal". It usually means that there were too few prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from instil.evaluation.intervals import Z_95, Interval
from instil.units import loss_words

Kind: TypeAlias = Literal["better", "worse", "mixed", "undecided"]
Unit: TypeAlias = Literal["share", "nats", "perplexity"]
"""What a difference is measured in: a share, shown in points of 100, a loss in nats per trained token, or a perplexity."""
LEVEL = 0.05
POWER = 0.8
Z_POWER = 0.8416212335729143
"""The normal quantile of `POWER`."""
SHOWN = (0.05, 0.02, 0.01)
"""Differences for which a number of prompts is computed: the first that the prompts at hand would not show."""
_LEAST_GRADED = 10


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison shows.

    Attributes:
        kind: `better` or `worse`: the first model is, with p below 0.05. `mixed`: it wins more often, but the mean says
            the opposite, or the reverse. `undecided`: no difference is shown.
        words: The same as a sentence.
        detectable: A difference that is not shown with the prompts at hand; None if one was shown or none is known.
        needed: Number of prompts that would show it in 4 of 5 comparisons; None with `detectable`.
    """

    kind: Kind
    words: str
    detectable: float | None = None
    needed: int | None = None

    def __str__(self) -> str:
        return self.words


def amount(difference: float, unit: Unit) -> str:
    """Return the size of a difference in its unit, without a sign.

    Example:
        >>> amount(-0.12, "share"), amount(0.042, "share"), amount(-0.2113, "nats"), amount(0.01, "share")
        ('12 points', '4.2 points', '0.2113', '1 point')
    """
    if unit == "nats":
        return loss_words(abs(difference))
    points = abs(difference) * 100
    text = f"{points:.0f}" if points >= 10 else f"{points:.1f}".removesuffix(".0")
    return f"{text} point" if text == "1" else f"{text} points"


def verdict_of(gains: Sequence[float], *, difference: Interval, p_value: float, unit: Unit = "share") -> Verdict:
    """Return the verdict on a paired comparison.

    Args:
        gains: For each prompt how much better the first model is; 0 is a tie.
        difference: Mean difference, first minus second. In nats the lower side is better.
        p_value: The sign test's.
        unit: Unit of the difference.

    Example:
        >>> gains = [1.0] * 6 + [-1.0] * 8 + [0.0] * 26
        >>> verdict_of(gains, difference=Interval(-0.05, -0.2, 0.1, 40), p_value=0.79).words
        'no difference can be shown with 40 prompts; about 1,200 would show 5 points'
    """
    differences = np.asarray(gains, dtype=float)
    num_wins, num_losses = int((differences > 0).sum()), int((differences < 0).sum())
    if p_value >= LEVEL:
        return _undecided(differences, num_differing=num_wins + num_losses, unit=unit)
    kind: Kind = "better" if num_wins > num_losses else "worse"
    mean_gain = -difference.value if unit == "nats" else difference.value
    if (mean_gain > 0) != (kind == "better"):
        words = (
            f"unclear: better on {num_wins:,} and worse on {num_losses:,}, "
            f"but the mean is {'worse' if mean_gain < 0 else 'no worse'}"
        )
        return Verdict("mixed", words)
    size = amount(difference.value, unit)
    return Verdict(kind, f"{kind} by {size}" if unit == "share" else f"{kind}: loss {_way(kind)} by {size}")


def _way(kind: Kind) -> str:
    return "lower" if kind == "better" else "higher"


def _undecided(differences: np.ndarray, *, num_differing: int, unit: Unit) -> Verdict:
    """Return the verdict where no difference is shown, with the first difference that needs more prompts."""
    n = len(differences)
    what = "prompt" if unit == "share" else "conversation"
    words = f"no difference can be shown with {n:,} {what}{'' if n == 1 else 's'}"
    if not num_differing:
        words += f", {'both' if n > 1 else 'which both'} scored the same{' on all of them' if n > 1 else ''}"
    enough: float | None = None
    for size in SHOWN:
        needed = needed_to_show(differences, size)
        if needed is None:
            break
        if needed > n:
            words += "" if enough is None else f", enough to show {amount(enough, unit)}"
            return Verdict(
                "undecided", f"{words}; about {_rounded(needed):,} would show {amount(size, unit)}", size, needed
            )
        enough = size
    if enough is not None:
        words += f", enough to show {amount(enough, unit)}"
    return Verdict("undecided", words)


def needed_to_show(gains: Sequence[float] | np.ndarray, size: float) -> int | None:
    """Return how many prompts would show a mean gain of this size in 4 of 5 comparisons.

    The data gives the share of prompts on which the models differ. Scores of 0 and 1 need nothing else. Graded scores
    also give the spread of the gains: the gains are shifted until their mean is `size`, and wins and losses counted.

    Returns:
        The number; None for graded scores of which fewer than 10 differ, or if such a shift makes no more wins.
    """
    differences = np.asarray(gains, dtype=float)
    differing = differences[differences != 0]
    # One win or loss more among two prompts more: without it, a sample of ties alone would promise ties for ever.
    share = (len(differing) + 1) / (len(differences) + 2)
    if set(np.unique(np.abs(differing))) <= {1.0}:
        return prompts_needed(size, differing=max(share, size))
    if len(differing) < _LEAST_GRADED:
        return None
    shifted = differing - differing.mean() + size / share
    net = float((shifted > 0).mean() - (shifted < 0).mean()) * share
    return None if net <= 0 else prompts_needed(net, differing=share)


def prompts_needed(net: float, *, differing: float) -> int:
    """Return how many pairs the two-sided sign test at 5% needs to find a surplus of wins with a power of 80%.

    Args:
        net: Share of wins minus share of losses, above 0.
        differing: Share of wins plus share of losses, at least `net`.

    Source: R. J. Connor, "Sample size for testing differences in proportions for the paired-sample design",
    Biometrics 43 (1987), with the continuity correction of the sign test, which demands one win more.

    Example:
        >>> prompts_needed(0.05, differing=0.35), prompts_needed(0.5, differing=0.5)
        (1137, 17)
    """
    spread = Z_95 * math.sqrt(differing) + Z_POWER * math.sqrt(max(differing - net**2, 0.0))
    # n * net - 1 = spread * sqrt(n), solved for sqrt(n)
    root = (spread + math.sqrt(spread**2 + 4 * net)) / (2 * net)
    return math.ceil(root**2)


def _rounded(number: int) -> int:
    """Return a number with two digits that count: it is an estimate."""
    step: int = 10 ** max(len(str(number)) - 2, 0)
    return round(number / step) * step
