"""Answers requests on transformers' continuous batching, which keeps keys and values in pages.

Used on a GPU. The machinery has one seed and no penalties per request; `Worker` gives it none that need more.

Why: greedy is ``top_k=1`` in the batch, because its do_sample applies to all requests.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from instil.errors import GenerationError, first_line_of
from instil.generation.engine import Engine
from instil.generation.http_api.batch_thread import ENDED
from instil.generation.settings import SamplingSettings
from instil.model.attention.switch import generation_attention
from instil.model.underlying import underlying

PAGE = 64
BATCH_TOKENS = 2_048


class PagedBatches:
    """transformers' continuous batching for one engine.

    Args:
        engine: The model.
        cache_tokens: Tokens in the key-value cache, over all requests.

    Attributes:
        refusal: Why the machinery cannot run this model, or None.
        holds_model: Whether no forward pass may run beside the batches, as in transformers 5.17.
    """

    def __init__(self, engine: Engine, *, cache_tokens: int) -> None:
        self._engine = engine
        self._model: Any = underlying(engine.model)
        self._cache_tokens = cache_tokens
        self._manager: Any = None
        self.holds_model = False
        self.refusal: str | None = None

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
            self.holds_model = str(self._model.config._attn_implementation).startswith("paged|")
        except (ValueError, TypeError, NotImplementedError, AttributeError, RuntimeError) as error:
            self._manager, self.refusal = None, first_line_of(error)

    def stop(self) -> None:
        """End the background thread; requests in progress are dropped."""
        if self._manager is not None:
            # Why: transformers warns if no request came before the end, which is no fault.
            logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)
            self._manager.stop(block=True, timeout=5)
            self._manager = None

    @property
    def alive(self) -> bool:
        """Whether the background thread runs."""
        return self._manager is not None and self._manager.is_running()

    async def generate(self, prompt: Sequence[int], settings: SamplingSettings) -> AsyncIterator[int]:
        """Yield the tokens of one answer; the manager's thread puts results into this request's queue."""
        manager, name = self._manager, uuid.uuid4().hex
        if manager is None or not manager.is_running():
            raise GenerationError(ENDED)
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
