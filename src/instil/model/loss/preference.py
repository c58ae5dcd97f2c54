"""Objectives of preference tuning: functions of the log-probabilities of whole answers.

An answer enters as four numbers at most: its log-probability under the model that trains and under the reference, and
its length. Nothing here knows tokens or a model. The gradient with respect to a log-probability is the factor of that
answer's token weights in the step (`training.step.preference_step`).

Shapes: A answers, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from instil.recipe import REFERENCE_FREE, Objective

_FIRST_DIFFERENCE = 1e-30
"""Smallest value whose logarithm is taken: a log-probability of 0 has odds without end."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Log-probabilities of answers, aligned.

    Attributes:
        policy: Log-probability of each answer [A] under the model that trains: a weighted sum over its trained tokens.
        reference: The same under the reference [A]; zeros for an objective without one.
        length: Sum of the weights of those tokens [A].
    """

    policy: torch.Tensor
    reference: torch.Tensor
    length: torch.Tensor

    @property
    def ratio(self) -> torch.Tensor:
        """Log-probability ratio of the model to the reference [A]."""
        return self.policy - self.reference

    @property
    def mean(self) -> torch.Tensor:
        """Log-probability per token [A]."""
        return self.policy / self.length

    def pairs(self) -> tuple[Answers, Answers]:
        """Return the chosen and the rejected answers of pairs, which lie in turns."""
        chosen, rejected = (
            Answers(self.policy[first::2], self.reference[first::2], self.length[first::2]) for first in range(2)
        )
        return chosen, rejected


@dataclass(frozen=True, slots=True)
class PreferenceLoss:
    """An objective and its numbers.

    Attributes:
        objective: Any objective but `sft`.
        beta: Strength: see `recipe.PreferenceSettings`, which describes the other numbers too.
        margin: SimPO's gamma.
        length_normalized: Whether DPO and IPO divide log-probability ratios by the length.
        sft_weight: Factor of the chosen answer's cross-entropy per token, which is added.
        desirable_weight: KTO's weight of good answers.
        undesirable_weight: KTO's weight of bad answers.
    """

    objective: Objective
    beta: float
    margin: float = 1.0
    length_normalized: bool = False
    sft_weight: float = 0.0
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0

    @property
    def needs_reference(self) -> bool:
        """Whether answers are compared with those of a reference."""
        return self.objective not in REFERENCE_FREE

    @property
    def of_pairs(self) -> bool:
        """Whether it compares two answers; KTO judges one."""
        return self.objective != "kto"

    def of_answers(self, chosen: Answers, rejected: Answers) -> torch.Tensor:
        """Return the loss of each pair [P].

        Args:
            chosen: The better answer of each pair.
            rejected: The worse one.

        Example:
            >>> start = Answers(torch.tensor([-3.0]), torch.tensor([-3.0]), torch.tensor([2.0]))
            >>> round(PreferenceLoss("dpo", beta=0.1).of_answers(start, start).item(), 6)
            0.693147
        """
        losses = {"dpo": self._dpo, "ipo": self._ipo, "simpo": self._simpo, "orpo": self._orpo}[self.objective](
            chosen, rejected
        )
        return losses - self.sft_weight * chosen.mean if self.sft_weight else losses

    def of_judged(self, answers: Answers, desirable: torch.Tensor, drift: torch.Tensor) -> torch.Tensor:
        """Return KTO's loss of each answer [A].

        *Source*: Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic Optimization", equation 8.

        Args:
            answers: The answers.
            desirable: Whether each was judged good [A].
            drift: Estimate of the divergence from the reference, at least 0, through which no gradient flows.
        """
        gain = self.beta * (answers.ratio - drift)
        losses = torch.where(
            desirable,
            self.desirable_weight * torch.sigmoid(-gain),
            self.undesirable_weight * torch.sigmoid(gain),
        )
        if not self.sft_weight:
            return losses
        return losses - self.sft_weight * torch.where(desirable, answers.mean, torch.zeros_like(answers.mean))

    def rewards(self, answers: Answers) -> torch.Tensor:
        """Return the reward that the objective gives to each answer [A]."""
        return self.beta * (self._ratio(answers) if self.needs_reference else answers.mean)

    def _ratio(self, answers: Answers) -> torch.Tensor:
        return answers.ratio / answers.length if self.length_normalized else answers.ratio

    def _dpo(self, chosen: Answers, rejected: Answers) -> torch.Tensor:
        # Source: Rafailov et al. 2023, "Direct Preference Optimization", equation 7; divided by the lengths, Lambert et
        # al. 2024, "Tülu 3", equation 6.
        return -F.logsigmoid(self.rewards(chosen) - self.rewards(rejected))

    def _ipo(self, chosen: Answers, rejected: Answers) -> torch.Tensor:
        # Source: Azar et al. 2023, "A General Theoretical Paradigm to Understand Learning from Human Preferences",
        # equation 17; beta is its tau.
        return (self._ratio(chosen) - self._ratio(rejected) - 1 / (2 * self.beta)) ** 2

    def _simpo(self, chosen: Answers, rejected: Answers) -> torch.Tensor:
        # Source: Meng et al. 2024, "SimPO: Simple Preference Optimization with a Reference-Free Reward", equation 6.
        return -F.logsigmoid(self.rewards(chosen) - self.rewards(rejected) - self.margin)

    def _orpo(self, chosen: Answers, rejected: Answers) -> torch.Tensor:
        # Source: Hong et al. 2024, "ORPO: Monolithic Preference Optimization without Reference Model", equations 6 and 7;
        # beta is its lambda. Both terms are means over the answer's tokens alone.
        return -chosen.mean - self.beta * F.logsigmoid(_log_odds(chosen.mean) - _log_odds(rejected.mean))


def _log_odds(log_probability: torch.Tensor) -> torch.Tensor:
    """Return log(p / (1 - p))."""
    return log_probability - torch.log((-torch.expm1(log_probability)).clamp_min(_FIRST_DIFFERENCE))


def first_loss(loss: PreferenceLoss) -> float | None:
    """Return what the loss is while model and reference are equal; None where that depends on the answers.

    `sft_weight` adds the cross-entropy of the chosen answers, which depends on them.

    Example:
        >>> round(first_loss(PreferenceLoss("dpo", beta=0.1)), 6), first_loss(PreferenceLoss("ipo", beta=0.1))
        (0.693147, 25.0)
        >>> first_loss(PreferenceLoss("kto", beta=0.1)), first_loss(PreferenceLoss("simpo", beta=2.0))
        (0.5, None)
    """
    if not loss.needs_reference or loss.sft_weight:
        return None
    if loss.objective == "kto":
        return 0.5 if loss.desirable_weight == loss.undesirable_weight == 1 else None
    zero = torch.zeros(1, dtype=torch.float64)
    equal = Answers(zero, zero, zero + 1)
    return float(loss.of_answers(equal, equal))
