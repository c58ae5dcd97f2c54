"""After which steps a run evaluates and saves: for the loop, and for whoever reads a run that goes on.

Why: it must not import torch. The studio tells from it whether a run evaluates at this moment.
"""

from __future__ import annotations

from dataclasses import dataclass

EVALUATIONS_PER_RUN = 10
"""How often a run evaluates, and saves, if the recipe does not say."""


@dataclass(frozen=True, slots=True)
class Due:
    """After which steps a run evaluates and saves.

    Attributes:
        evaluate: Number of steps between evaluations; the last step has one too.
        save: Number of steps between checkpoints; the last step has one too.
        last: The last step.
    """

    evaluate: int
    save: int
    last: int

    def evaluates(self, step: int) -> bool:
        """Return True if an evaluation follows a step."""
        return step % self.evaluate == 0 or step == self.last

    def saves(self, step: int) -> bool:
        """Return True if a checkpoint follows a step."""
        return step % self.save == 0 or step == self.last


def when_due(num_steps: int, *, evaluate_every: int | None, save_every: int | None) -> Due:
    """Plan evaluations and checkpoints.

    Args:
        num_steps: Steps of the run.
        evaluate_every: The recipe's `evaluate.every`; None for ten times a run.
        save_every: The recipe's `checkpoint.every`; None for as often as it evaluates.

    Example:
        >>> when_due(95, evaluate_every=None, save_every=7)
        Due(evaluate=10, save=7, last=95)
    """
    evaluate = evaluate_every or max(1, -(-num_steps // EVALUATIONS_PER_RUN))
    return Due(evaluate, save_every or evaluate, num_steps)
