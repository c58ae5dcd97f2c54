"""Losses of one token, as functions of its negative log-likelihood.

To add a loss, write one function here and name it in `TOKEN_LOSSES` and in the recipe's `training.loss`. It receives the
negative log-likelihoods and gives the loss values and their slopes; the gradient in the logits is then
``slope * (softmax - one_hot)``, which is what `loss` computes. A loss that stops the gradient in a factor says so by its slope.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch

TokenLossFunction: TypeAlias = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def cross_entropy(nll: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the negative log-likelihood itself.

    Args:
        nll: N negative log-likelihoods, fp32.

    Returns:
        N losses and N slopes.
    """
    return nll, torch.ones_like(nll)


def dft(nll: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weigh the negative log-likelihood with the token's own probability, through which no gradient flows.

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
