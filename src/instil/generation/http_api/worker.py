"""Generates for many requests at once, on transformers' continuous batching.

A request is an asynchronous iterator of token ids; closing it frees its place in the batch. transformers' machinery
has one seed and no penalties per request. So a request with ``seed``, ``min_p``, a penalty, log-probabilities or a form
goes through this package's own loop, one at a time. So does every request to a model that the machinery cannot run
(convolution and state-space layers).

Why: greedy is ``top_k=1`` in the batch, because its do_sample applies to all requests.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from instil.errors import GenerationError, first_line_of
from instil.generation.constraints.constraint import Constraint
from instil.generation.decoding import context_limit
from instil.generation.engine import Engine
from instil.generation.logprobs import TokenLogprob
from instil.generation.sampling import stream_tokens
from instil.generation.settings import SamplingSettings
from instil.model.attention.switch import generation_attention
from instil.model.underlying import underlying

PAGE = 64
BATCH_TOKENS = 2_048


@dataclass(slots=True)
class Logprobs:
    """The log-probabilities of one answer while it is generated.

    Attributes:
        num_top: How many alternatives each token has.
        entries: One for each token so far; the stop token has none.
    """

    num_top: int
    entries: list[TokenLogprob] = field(default_factory=list)


class Worker:
    """Generates token ids for one engine.

    Args:
        engine: The model.
        cache_tokens: Tokens in the key-value cache, over all requests.

    Attributes:
        why_single: Why requests are answered one by one, or None if they are batched.
    """

    def __init__(self, engine: Engine, *, cache_tokens: int) -> None:
        self._engine = engine
        self._model: Any = underlying(engine.model)
        self._cache_tokens = cache_tokens
        self._single = threading.Lock()
        self._manager: Any = None
        self._holds_model = False
        self.why_single: str | None = None

    def start(self) -> None:
        """Start the background thread."""
        from transformers import ContinuousBatchingConfig, GenerationConfig

        # Processors exist only for values that are not neutral; each request then has its own values.
        stops = list(self._engine.stop_ids)
        defaults = GenerationConfig(do_sample=True, temperature=0.5, top_k=50, top_p=0.5, eos_token_id=stops)
        config = ContinuousBatchingConfig(
            num_blocks=max(2, self._cache_tokens // PAGE),
            max_batch_tokens=min(BATCH_TOKENS, self._cache_tokens),
            per_request_processors=True,
            **_by_version(ContinuousBatchingConfig),
        )
        try:
            if _has_states(self._model.config):
                raise ValueError("its layers keep states that pages cannot hold")
            if generation_attention(self._model) != "sdpa":
                raise ValueError("its attention (a soft cap, or no sdpa) is not in the paged kernels")
            self._manager = self._model.init_continuous_batching(
                generation_config=defaults, continuous_batching_config=config
            )
            self._manager.start()
            self._holds_model = str(self._model.config._attn_implementation).startswith("paged|")
        except (ValueError, TypeError, NotImplementedError, AttributeError, RuntimeError) as error:
            self._manager, self.why_single = None, first_line_of(error)

    def stop(self) -> None:
        """End the background thread; requests in progress are dropped."""
        if self._manager is not None:
            # Why: transformers warns if no request came before the end, which is no fault.
            logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)
            self._manager.stop(block=True, timeout=5)
            self._manager = None

    @property
    def alive(self) -> bool:
        """Whether requests can be answered."""
        if self.why_single is not None:
            return True
        return self._manager is not None and self._manager.is_running()

    def room(self, prompt: Sequence[int]) -> int:
        """Return the most tokens that can follow a prompt; below 1 if it is too long."""
        limits = [context_limit(self._engine.model)]
        if self._manager is not None:
            limits.append(self._cache_tokens - PAGE)
        return min(limit for limit in (*limits, 2**31) if limit is not None) - len(prompt)

    def generate(
        self,
        prompt: Sequence[int],
        settings: SamplingSettings,
        *,
        num_begun: int = 0,
        constraint: Constraint | None = None,
        logprobs: Logprobs | None = None,
    ) -> AsyncIterator[int]:
        """Return the tokens of one answer as they are generated; a stop token is the last one.

        Args:
            prompt: Ids of the prompt.
            settings: Its sampling settings.
            num_begun: How many of the prompt's last ids begin the answer.
            constraint: The form of the answer.
            logprobs: Filled with a log-probability for each token, before the token is returned.
        """
        alone = self.why_single is not None or constraint is not None or logprobs is not None
        if alone or _needs_own_loop(settings):
            return self._generate_alone(prompt, settings, num_begun, constraint, logprobs)
        return self._generate_together(prompt, settings)

    def refusal(self, settings: SamplingSettings, *, alone: bool = False) -> str | None:
        """Return why these settings cannot be served, or None; `alone` if the request needs the own loop anyway.

        transformers 5.17 allows no forward pass beside its batches.
        """
        if self.why_single is None and self._holds_model and (alone or _needs_own_loop(settings)):
            return (
                "seed, min_p, penalties, logprobs, response_format and tool_choice need a forward pass of their own, which this server's version of "
                "transformers does not allow beside its batches. Leave them out."
            )
        return None

    async def _generate_together(self, prompt: Sequence[int], settings: SamplingSettings) -> AsyncIterator[int]:
        """Generate in the batch; the manager's thread puts results into this request's queue."""
        manager, name = self._manager, uuid.uuid4().hex
        if manager is None or not manager.is_running():
            raise GenerationError("the generation thread has ended. Start the server again.")
        arrived: asyncio.Queue[Any] = asyncio.Queue()
        manager.register_result_handler(name, arrived.put_nowait)
        vocabulary = self._model.config.get_text_config(decoder=True).vocab_size
        sampled = {"temperature": settings.temperature, "top_k": settings.top_k or vocabulary, "top_p": settings.top_p}
        greedy = {"temperature": 1.0, "top_k": 1, "top_p": 1.0}
        chosen = {key: min(value, vocabulary) if key == "top_k" else float(value) for key, value in sampled.items()}
        done, sent = False, 0
        try:
            manager.add_request(
                list(prompt),
                request_id=name,
                max_new_tokens=settings.max_new_tokens,
                streaming=True,
                eos_token_id=list(self._engine.stop_ids),
                **(greedy if settings.greedy else chosen),
            )
            while not done:
                output = await arrived.get()
                if output.error is not None:
                    done = True
                    raise GenerationError(f"generation failed: {output.error}")
                # Each output has all tokens so far.
                done = output.is_finished()
                new_tokens = list(output.generated_tokens[sent:])
                sent += len(new_tokens)
                for token in new_tokens:
                    yield token
        finally:
            # The client has gone, or generation failed: free the request's place in the batch.
            if not done:
                with manager.output_router._lock:
                    manager.output_router.result_handlers.pop(name, None)
                manager.cancel_request(name)

    async def _generate_alone(
        self,
        prompt: Sequence[int],
        settings: SamplingSettings,
        num_begun: int,
        constraint: Constraint | None,
        logprobs: Logprobs | None,
    ) -> AsyncIterator[int]:
        """Generate in a thread of this request, one request at a time."""
        loop, gone = asyncio.get_running_loop(), threading.Event()
        arrived: asyncio.Queue[int | Exception | None] = asyncio.Queue()

        def send(item: int | Exception | None) -> None:
            loop.call_soon_threadsafe(arrived.put_nowait, item)

        def work() -> None:
            try:
                with self._single:
                    if not gone.is_set():
                        for token, logprob in stream_tokens(
                            self._model,
                            prompt,
                            settings=settings,
                            stop_ids=self._engine.stop_ids,
                            num_begun=num_begun,
                            constraint=constraint,
                            top_logprobs=None if logprobs is None else logprobs.num_top,
                        ):
                            if logprobs is not None and logprob is not None:
                                logprobs.entries.append(logprob)
                            send(token)
                            if gone.is_set():
                                return
                send(None)
            except Exception as error:  # raised in the request that waits for it
                send(error)

        threading.Thread(target=work, daemon=True).start()
        try:
            while (item := await arrived.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            gone.set()


def _needs_own_loop(settings: SamplingSettings) -> bool:
    """Return whether a request needs what the batches lack: a seed of its own, ``min_p``, a penalty."""
    samples = settings.seed is not None or settings.min_p > 0
    penalised = settings.repetition_penalty != 1 or settings.presence_penalty or settings.frequency_penalty
    return (samples and not settings.greedy) or bool(penalised)


def _has_states(config: Any) -> bool:
    """Return whether a model has layers that keep a state instead of keys and values."""
    kinds = getattr(config.get_text_config(decoder=True), "layer_types", None) or ()
    return any(kind not in ("full_attention", "sliding_attention") for kind in kinds)


def _by_version(config: type) -> dict[str, Any]:
    """Return the settings whose names depend on transformers' version.

    In 5.17 a page was called a block, and no kernel was switched automatically.
    """
    names = inspect.signature(config).parameters
    settings: dict[str, Any] = {"page_size" if "page_size" in names else "block_size": PAGE}
    if "auto_switch_to_flash" in names:
        settings["auto_switch_to_flash"] = False
    return settings
