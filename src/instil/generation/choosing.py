"""From logits to the next token: sampling settings, and the draw.

Every request draws from random numbers of its own (its seed), never from a generator that the batch shares, so an answer
does not depend on who else is being answered. Questionable on purpose: the draw is by inverse distribution on one uniform
number a token, not `torch.multinomial`, because that takes one generator for all rows.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from instil.errors import GenerationError

_BLOCK = 64
"""Uniform numbers drawn at a time, so that a longer limit does not change the first of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings:
    """How the next token is chosen, and when an answer ends. The default is greedy.

    Attributes:
        temperature: 0 takes the most probable token (greedy); above 0 the logits are divided by it and a token is drawn.
        top_k: Draw from this many most probable tokens only; None for all.
        top_p: Draw from the smallest set of tokens whose probabilities reach this sum.
        min_p: Leave out tokens less probable than this share of the most probable one.
        repetition_penalty: Above 1 makes tokens of the prompt and the answer so far less likely; 1 changes nothing.
        max_new_tokens: Longest answer, the stop token included.
        seed: Seed of the draw; None draws a seed, which the answer reports. Answer number k of a prompt uses seed + k.
        num_answers: Answers per prompt.
        stop: Strings that end the answer; they are not part of it.

    Example:
        >>> SamplingSettings(temperature=0.7, top_p=0.9, seed=1).greedy
        False
        >>> SamplingSettings(temperature=-1)
        Traceback (most recent call last):
        instil.errors.GenerationError: temperature: found -1; allowed is 0 or more; mend the sampling setting
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_new_tokens: int = 256
    seed: int | None = None
    num_answers: int = 1
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require("temperature", self.temperature, self.temperature >= 0, "0 or more")
        _require("top_k", self.top_k, self.top_k is None or self.top_k >= 1, "1 or more, or nothing")
        _require("top_p", self.top_p, 0 < self.top_p <= 1, "above 0, at most 1")
        _require("min_p", self.min_p, 0 <= self.min_p < 1, "0 or more, below 1")
        _require("repetition_penalty", self.repetition_penalty, self.repetition_penalty > 0, "above 0")
        _require("max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1, "1 or more")
        _require("seed", self.seed, self.seed is None or 0 <= self.seed < 2**63, "0 to 2^63 - 1, or nothing")
        _require("num_answers", self.num_answers, self.num_answers >= 1, "1 or more")
        _require("stop", list(self.stop), all(self.stop), "a list of strings that are not empty")

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is taken each time."""
        return self.temperature == 0


def _require(name: str, found: object, holds: bool, allowed: str) -> None:
    if not holds:
        raise GenerationError(f"{name}: found {found!r}; allowed is {allowed}; mend the sampling setting")


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
