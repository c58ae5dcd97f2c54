"""Chooses who generates for a request: this package's batch, or on a GPU transformers' paged batches.

A request is an asynchronous iterator of token ids; closing it frees its place in the batch. On a CPU every request goes
to `BatchThread`. On a GPU, pages hold many rows of different lengths better, but have one seed and no penalties per
request. So there a request with ``seed``, ``min_p``, a penalty, log-probabilities or a form goes to `BatchThread`, as
does every request to a model that has no pages (convolution and state-space layers).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from instil.generation.constraints.constraint import Constraint
from instil.generation.decoding import context_limit
from instil.generation.engine import Engine
from instil.generation.http_api.batch_thread import BatchThread, Logprobs
from instil.generation.http_api.paged import PAGE, PagedBatches
from instil.generation.settings import SamplingSettings


class Worker:
    """Generates token ids for one engine.

    Args:
        engine: The model.
        cache_tokens: Tokens in the key-value cache, over all requests.
    """

    def __init__(self, engine: Engine, *, cache_tokens: int) -> None:
        self._engine = engine
        self._cache_tokens = cache_tokens
        self._batch = BatchThread(engine, cache_tokens=cache_tokens)
        on_cpu = next(engine.model.parameters()).device.type == "cpu"
        self._pages = None if on_cpu else PagedBatches(engine, cache_tokens=cache_tokens)

    def start(self) -> None:
        """Start the background threads."""
        if self._pages is not None:
            self._pages.start()
            if self._pages.refusal is not None:
                self._pages = None
        self._batch.start()

    def stop(self) -> None:
        """End the background threads; requests in progress are dropped."""
        self._batch.stop()
        if self._pages is not None:
            self._pages.stop()

    @property
    def alive(self) -> bool:
        """Whether requests can be answered."""
        return self._batch.alive and (self._pages is None or self._pages.alive)

    def room(self, prompt: Sequence[int]) -> int:
        """Return the most tokens that can follow a prompt; below 1 if it is too long."""
        limits = [context_limit(self._engine.model), self._cache_tokens - PAGE]
        return min(limit for limit in limits if limit is not None) - len(prompt)

    def generate(
        self,
        prompt: Sequence[int],
        settings: SamplingSettings,
        *,
        num_begun: int = 0,
        constraint: Constraint | None = None,
        logprobs: Logprobs | None = None,
        on_read: Callable[[int], None] | None = None,
    ) -> AsyncIterator[int]:
        """Return the tokens of one answer as they are generated; see `BatchThread.generate`.

        transformers' batches do not call `on_read`: how much they reuse is not known.
        """
        special = constraint is not None or logprobs is not None or _needs_own_loop(settings)
        if self._pages is not None and not special:
            return self._pages.generate(prompt, settings)
        return self._batch.generate(
            prompt, settings, num_begun=num_begun, constraint=constraint, logprobs=logprobs, on_read=on_read
        )

    def refusal(self, settings: SamplingSettings, *, alone: bool = False) -> str | None:
        """Return why these settings cannot be served, or None; `alone` if the request needs the own loop anyway.

        transformers 5.17 allows no forward pass beside its batches.
        """
        if self._pages is not None and self._pages.holds_model and (alone or _needs_own_loop(settings)):
            return (
                "seed, min_p, penalties, logprobs, response_format and tool_choice need a forward pass of their own, which this server's version of "
                "transformers does not allow beside its batches. Leave them out."
            )
        return None


def _needs_own_loop(settings: SamplingSettings) -> bool:
    """Return whether a request needs what the batches lack: a seed of its own, ``min_p``, a penalty."""
    samples = settings.seed is not None or settings.min_p > 0
    penalised = settings.repetition_penalty != 1 or settings.presence_penalty or settings.frequency_penalty
    return (samples and not settings.greedy) or bool(penalised)
