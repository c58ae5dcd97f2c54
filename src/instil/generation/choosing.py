"""From logits to the next token.

Every request draws from random numbers of its own (its seed), never from a generator that the batch shares, so an answer
does not depend on who else is being answered. Questionable on purpose: the draw is by inverse distribution on one uniform
number a token, not `torch.multinomial`, because that takes one generator for all rows.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import torch
from torch import Tensor

from instil.generation.settings import SamplingSettings

_BLOCK = 64
"""Uniform numbers drawn at a time, so that a longer limit does not change the first of them."""


class Draws:
    """Uniform numbers in [0, 1) of one seed, one a token.

    Example:
        >>> Draws(7).next() == Draws(7).next()
        True
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._generator = torch.Generator().manual_seed(seed)
        self._numbers: list[float] = []

    def next(self) -> float:
        """Give the next number."""
        if not self._numbers:
            drawn = torch.rand(_BLOCK, generator=self._generator, dtype=torch.float64)
            self._numbers = drawn.flip(0).tolist()
        return self._numbers.pop()


def new_seed() -> int:
    """Draw a seed from the system's randomness, for requests that name none."""
    return secrets.randbits(31)


def penalise_repeats(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make tokens that occurred less likely, as CTRL does it.

    Args:
        logits: [B, V].
        seen: [B, V] booleans: the token stands in the prompt or in the answer so far.
        penalty: 1 changes nothing.

    Returns:
        [B, V]; positive logits of seen tokens divided by the penalty, negative ones multiplied.

    Source:
        Keskar et al. 2019, section 4.1.
    """
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def choose(logits: Tensor, settings: SamplingSettings, draws: Sequence[Draws]) -> Tensor:
    """Choose one token a row.

    Args:
        logits: [B, V] in fp32.
        settings: The same for all rows.
        draws: One source of uniform numbers a row; not used when greedy.

    Returns:
        [B] token ids.

    Example:
        >>> choose(torch.tensor([[0.0, 3.0, 1.0]]), SamplingSettings(), [Draws(0)]).tolist()
        [1]
    """
    if settings.greedy:
        return logits.argmax(dim=-1)
    uniform = torch.tensor([draw.next() for draw in draws], dtype=torch.float64, device=logits.device)
    logits = logits / settings.temperature
    order: Tensor | None = None
    if settings.top_k is not None:
        logits, order = logits.topk(min(settings.top_k, logits.shape[-1]), dim=-1)
    elif settings.top_p < 1:
        logits, order = logits.sort(dim=-1, descending=True)
    probabilities = logits.double().softmax(dim=-1)
    if settings.top_p < 1:
        # A token stays where those before it do not yet reach top_p: the first one always does.
        before = probabilities.cumsum(dim=-1) - probabilities
        probabilities = probabilities * (before < settings.top_p)
    if settings.min_p > 0:
        most = probabilities.amax(dim=-1, keepdim=True)
        probabilities = probabilities * (probabilities >= settings.min_p * most)
    sums = probabilities.cumsum(dim=-1)
    target = uniform[:, None] * sums[:, -1:]
    place = torch.searchsorted(sums, target, right=True).clamp(max=sums.shape[-1] - 1)
    return place[:, 0] if order is None else order.gather(-1, place)[:, 0]
