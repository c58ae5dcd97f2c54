"""NEFTune: uniform noise on the embeddings during training, independent of how a step is cut into micro-batches.

*Source*: Jain et al. 2023, "NEFTune: Noisy Embeddings Improve Instruction Finetuning": noise in [-1, 1] times
``alpha / sqrt(L * d)``, with L the example's own length and d the width. Each example has its own generator, seeded by
run seed, epoch and example, so its noise does not depend on the micro-batch, the number of processes or a resumption.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from instil.model.attention.layout import FlatLayout


@dataclass(frozen=True, slots=True)
class NoiseKey:
    """The key of one example's noise in one epoch.

    Attributes:
        seed: Seed of its generator.
        length: L, the number of tokens of the complete example; a micro-batch may leave some out.
    """

    seed: int
    length: int

    @classmethod
    def of(cls, seed: int, epoch: int, example: int | str, *, length: int) -> NoiseKey:
        """Return the key of an example in an epoch of a run.

        Example:
            >>> NoiseKey.of(0, 1, 2, length=9) == NoiseKey.of(0, 1, 2, length=9)
            True
            >>> NoiseKey.of(0, 1, 2, length=9) == NoiseKey.of(0, 2, 1, length=9)
            False
        """
        digest = hashlib.blake2b(f"{seed}/{epoch}/{example}".encode(), digest_size=8).digest()
        return cls(int.from_bytes(digest, "big") >> 1, length)


def example_noise(key: NoiseKey, *, width: int, alpha: float, device: torch.device | str) -> torch.Tensor:
    """Draw the fp32 noise [length, width] of one example.

    The same key gives the same noise on the same kind of device. CPU and GPU generators differ.
    """
    generator = torch.Generator(device=device).manual_seed(key.seed)
    noise = torch.rand(key.length, width, generator=generator, device=device)
    return noise.mul_(2.0).sub_(1.0).mul_(alpha / (key.length * width) ** 0.5)


class EmbeddingNoise:
    """A hook that adds keyed noise to the output of a model's input embedding while `keyed` is open."""

    def __init__(self, model: Any, *, alpha: float) -> None:
        """Hook the input embedding of a transformers model; outside `keyed` the hook does nothing."""
        self._alpha = alpha
        self._current: tuple[tuple[NoiseKey, ...], FlatLayout] | None = None
        model.get_input_embeddings().register_forward_hook(self._add)

    @contextmanager
    def keyed(self, keys: Sequence[NoiseKey] | None, layout: FlatLayout) -> Iterator[None]:
        """Add noise in the forward passes inside this context: one key for each example, or None for no noise."""
        self._current = None if keys is None else (tuple(keys), layout)
        try:
            yield
        finally:
            self._current = None

    def _add(self, module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        if self._current is None:
            return output
        keys, layout = self._current
        part, stop, noises = layout.part, 0, []
        for key, length in zip(keys, layout.lengths, strict=True):
            start, stop = stop, stop + length
            first, last = max(start, part.start), min(stop, part.stop)
            if first < last:  # this process holds tokens of the example
                noise = example_noise(key, width=output.shape[-1], alpha=self._alpha, device=output.device)
                noises.append(noise[first - start : last - start])
        return output + torch.cat(noises).to(output.dtype)
