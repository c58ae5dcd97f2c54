"""NEFTune: uniform noise on the embeddings while training, the same however a step is cut.

*Source*: Jain et al. 2023, "NEFTune: Noisy Embeddings Improve Instruction Finetuning": noise in [-1, 1] times
``alpha / sqrt(L * d)``, L the example's own length, d the width. Each example draws from a generator of its own, seeded by run
seed, epoch and example, so neither the micro-batch, the number of processes nor a resumption changes what it gets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from instil.model.layout import FlatLayout


def noise_key(seed: int, epoch: int, example: int | str) -> int:
    """Give the key of one example's noise in one epoch.

    Example:
        >>> noise_key(0, 1, 2) == noise_key(0, 1, 2), noise_key(0, 1, 2) == noise_key(0, 2, 1)
        (True, False)
    """
    digest = hashlib.blake2b(f"{seed}/{epoch}/{example}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def example_noise(key: int, *, length: int, width: int, alpha: float, device: torch.device | str) -> torch.Tensor:
    """Draw the fp32 noise [length, width] of one example.

    The same key gives the same noise on the same kind of device; the devices' generators differ.
    """
    generator = torch.Generator(device=device).manual_seed(key)
    noise = torch.rand(length, width, generator=generator, device=device)
    return noise.mul_(2.0).sub_(1.0).mul_(alpha / (length * width) ** 0.5)


class EmbeddingNoise:
    """Adds keyed noise to the output of a model's input embedding while `keyed` is open."""

    def __init__(self, model: Any, *, alpha: float) -> None:
        """Hook the input embedding of a transformers model; outside `keyed` the hook does nothing."""
        self._alpha = alpha
        self._current: tuple[tuple[int, ...], FlatLayout] | None = None
        model.get_input_embeddings().register_forward_hook(self._add)

    @contextmanager
    def keyed(self, keys: Sequence[int] | None, layout: FlatLayout) -> Iterator[None]:
        """Let the next forward pass add the noise of these keys, one an example; None adds none."""
        self._current = None if keys is None else (tuple(keys), layout)
        try:
            yield
        finally:
            self._current = None

    def _add(self, module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        if self._current is None:
            return output
        keys, layout = self._current
        width = output.shape[-1]
        noise = torch.cat(
            [
                example_noise(key, length=length, width=width, alpha=self._alpha, device=output.device)
                for key, length in zip(keys, layout.lengths, strict=True)
            ]
        )
        return output + noise.to(output.dtype)
