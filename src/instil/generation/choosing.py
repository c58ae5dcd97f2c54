"""Choose the next token from the logits.

Every request draws from its own random numbers (its seed), never from a generator that the batch shares. So an answer
does not depend on the other requests in the batch.

Why: tokens are drawn by inverting the cumulative distribution with one uniform number per token. `torch.multinomial`
would take one generator for all rows.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import torch
from torch import Tensor

from instil.generation.settings import SamplingSettings
from instil.model.to_device import send

_BLOCK = 64
"""Uniform numbers drawn at a time. Blocks of fixed size keep the first numbers the same for every answer length."""


class Draws:
    """Uniform numbers in [0, 1) from one seed, one per token.

    Example:
        >>> Draws(7).next() == Draws(7).next()
        True
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._generator = torch.Generator().manual_seed(seed)
        self._numbers: list[float] = []

    def next(self) -> float:
        """Return the next number."""
        if not self._numbers:
            drawn = torch.rand(_BLOCK, generator=self._generator, dtype=torch.float64)
            self._numbers = drawn.flip(0).tolist()
        return self._numbers.pop()


def new_seed() -> int:
    """Draw a seed from the system's randomness, for requests without one."""
    return secrets.randbits(31)


def penalise_repeats(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make tokens that already occurred less likely, as CTRL does.

    Args:
        logits: [B, V].
        seen: [B, V] booleans: the token occurs in the prompt or in the answer so far.
        penalty: 1 changes nothing.

    Returns:
        [B, V]. Positive logits of seen tokens are divided by the penalty, negative ones multiplied.

    Source:
        Keskar et al. 2019, section 4.1.
    """
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def penalise_counts(logits: Tensor, counts: Tensor, *, presence: float, frequency: float) -> Tensor:
    """Make tokens that the answer already contains less likely, as OpenAI does.

    Args:
        logits: [B, V].
        counts: [B, V]: how often the token occurs in the answer so far; the prompt does not count.
        presence: Subtracted once if the token occurs.
        frequency: Subtracted for each time.

    Source:
        OpenAI's guide "Advanced usage", frequency and presence penalties:
        ``mu[j] - c[j] * alpha_frequency - float(c[j] > 0) * alpha_presence``.

    Example:
        >>> penalise_counts(torch.zeros(1, 3), torch.tensor([[0, 1, 2]]), presence=0.5, frequency=1.0).tolist()
        [[0.0, -1.5, -2.5]]
    """
    return logits - counts * frequency - (counts > 0) * presence


def choose(logits: Tensor, settings: SamplingSettings, draws: Sequence[Draws]) -> Tensor:
    """Choose one token per row.

    Args:
        logits: [B, V] in fp32.
        settings: The same for all rows.
        draws: One source of uniform numbers per row; not used when greedy.

    Returns:
        [B] token ids.

    Example:
        >>> choose(torch.tensor([[0.0, 3.0, 1.0]]), SamplingSettings(), [Draws(0)]).tolist()
        [1]
    """
    if settings.greedy:
        return logits.argmax(dim=-1)
    uniform = send([draw.next() for draw in draws], logits.device, dtype=torch.float64)
    logits = logits / settings.temperature
    order: Tensor | None = None
    if settings.top_k is not None:
        logits, order = logits.topk(min(settings.top_k, logits.shape[-1]), dim=-1)
    elif settings.top_p < 1:
        logits, order = logits.sort(dim=-1, descending=True)
    probabilities = logits.double().softmax(dim=-1)
    if settings.top_p < 1:
        # A token stays if the tokens before it do not reach top_p yet, so the first one always stays.
        before = probabilities.cumsum(dim=-1) - probabilities
        probabilities = probabilities * (before < settings.top_p)
    if settings.min_p > 0:
        highest = probabilities.amax(dim=-1, keepdim=True)
        probabilities = probabilities * (probabilities >= settings.min_p * highest)
    sums = probabilities.cumsum(dim=-1)
    target = uniform[:, None] * sums[:, -1:]
    place = torch.searchsorted(sums, target, right=True).clamp(max=sums.shape[-1] - 1)
    return place[:, 0] if order is None else order.gather(-1, place)[:, 0]
