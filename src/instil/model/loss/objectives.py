"""Token losses, as functions of the negative log-likelihood.

To add a loss, write one function here and name it in `TOKEN_LOSSES` and in the recipe's `training.loss`. It takes
negative log-likelihoods and returns loss values and slopes. The gradient with respect to the logits is then ``slope *
(softmax - one_hot)``, which `chunked` computes. A loss with a factor through which no gradient flows leaves the
factor's derivative out of its slope.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch

TokenLossFunction: TypeAlias = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def cross_entropy(nll: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the negative log-likelihood itself.

    Args:
        nll: N negative log-likelihoods, fp32.

    Returns:
        N losses and N slopes.
    """
    return nll, torch.ones_like(nll)


def dft(nll: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Multiply the negative log-likelihood by the token's own probability, through which no gradient flows.

    *Source*: Wu et al. 2025, "On the Generalization of SFT: A Reinforcement Learning Perspective with Reward
    Rectification" (Dynamic Fine-Tuning), equation 9.

    Args:
        nll: N negative log-likelihoods, fp32.

    Returns:
        N losses and N slopes.

    Example:
        >>> loss, slope = dft(torch.tensor([0.0, 0.6931472]))
        >>> slope.tolist()
        [1.0, 0.5]
    """
    probability = torch.exp(-nll)
    return probability * nll, probability


TOKEN_LOSSES: dict[str, TokenLossFunction] = {"cross_entropy": cross_entropy, "dft": dft}
