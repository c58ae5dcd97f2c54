"""Run the forward passes of generation: a batch of prompts, a key-value cache, one token per row and step.

Shapes: B rows, T tokens so far (the longest prompt plus the steps), V vocabulary. Shorter prompts are padded on the
*left*, so the newest token of every row is in the last column. Padding is masked, and positions count from each row's
first token. Models that do not use transformers' common cache (RWKV, xLSTM, MiniMax) read the full text again at each
step, one row at a time. That is slow but correct.

Why: a loop over transformers' cache, not ``model.generate``. Rows must leave the batch when they end, draw from their
own seeds, and return their tokens one by one.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from instil.errors import GenerationError
from instil.model.attention.flat import ATTENTION_NAME
from instil.model.attention.rotary import switch_of
from instil.model.attention.switch import set_attention
from instil.model.device_memory import is_out_of_memory
from instil.model.folder.config import context_length
from instil.model.to_device import send
from instil.model.underlying import underlying

MAX_ROWS = 128


def context_limit(model: torch.nn.Module) -> int | None:
    """Return the model's context length, prompt and answer together; None if its config has none."""
    return context_length(model.config)


@contextmanager
def answering(model: torch.nn.Module) -> Iterator[None]:
    """Switch the model to evaluation mode and to attention that reads a cache; restore both afterwards.

    Training runs flat micro-batches through its own attention function, which has no cache.

    Raises:
        GenerationError: If the model is an encoder-decoder model, or the device runs out of memory.
    """
    config: Any = model.config
    if getattr(config, "is_encoder_decoder", False):
        raise GenerationError(
            f"{config.model_type}: an encoder-decoder model. Expected a decoder-only model. Choose another model."
        )
    was_training, trains = model.training, getattr(config, "_attn_implementation", None) == ATTENTION_NAME
    model.eval()
    if trains:
        set_attention(model, "generation")
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise GenerationError(
            "the device ran out of memory while it generated these answers. Lower max_new_tokens, or load the model "
            "quantized (--load 4bit)."
        ) from None
    finally:
        if trains:
            set_attention(model, "training")
        model.train(was_training)


class Decoder:
    """A batch of rows that are answered together by the model's own forward.

    `add` reads prompts into new rows and returns the logits of their first new tokens. `step` takes the chosen tokens
    and returns the next logits. `keep` drops the other rows. Call them under `torch.no_grad` and `answering`.

    Args:
        model: A causal language model of transformers, or one wrapped by peft.
        pad_id: Any id of the vocabulary; its tokens are masked.
    """

    def __init__(self, model: torch.nn.Module, *, pad_id: int) -> None:
        self._model = model
        self._pad_id = pad_id
        self._memory = memory_of(model)
        self._cache: Any = None if self._memory is None else _new_cache(model)
        self._switch = switch_of(model)
        self._device = next(model.parameters()).device
        self._accepts = _forward_parameters(model)
        self._ids = self._lengths = torch.empty(0)
        # The same lengths on the host, so that nothing waits for the device.
        self._counts: list[int] = []
        self._width = 0
        self._mask: Tensor | None = None

    @property
    def takes_more(self) -> bool:
        """Whether `add` may be called while there are rows: if the cache holds keys and values, and nothing else."""
        from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

        if self._memory is None or self._switch is not None:
            return False
        kinds = (DynamicLayer, DynamicSlidingWindowLayer)
        return all(type(layer) in kinds and layer.is_initialized for layer in self._cache.layers)

    def add(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read prompts, none empty, into new rows, behind the others; return the fp32 logits [B, V] of their first
        new tokens.
        """
        if self._width:
            assert self.takes_more
            fresh = Decoder(self._model, pad_id=self._pad_id)
            logits = fresh.add(prompts)
            self._join(fresh)
            return logits
        assert self._memory is not None or len(prompts) == 1
        longest = max(len(prompt) for prompt in prompts)
        # Left padding: the newest token of every row is in the last column.
        padded = [[self._pad_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        self._ids = send(padded, self._device)
        self._counts = [len(prompt) for prompt in prompts]
        self._lengths = send(self._counts, self._device)
        self._width = longest
        if any(len(prompt) < longest for prompt in prompts):
            self._mask = self._unpadded()
        return self._read_all()

    def _unpadded(self) -> Tensor:
        """Return which columns are no padding, [B, T]."""
        columns = torch.arange(self._width, device=self._device)
        return (columns >= self._width - self._lengths[:, None]).long()

    def _read_all(self) -> Tensor:
        columns = torch.arange(self._width, device=self._device)
        positions = (columns - (self._width - self._lengths[:, None])).clamp(min=0)
        return self._forward(self._ids, positions)

    def _join(self, other: Decoder) -> None:
        """Take the rows of another batch behind one's own. The narrower one is padded on the left."""
        width = max(self._width, other._width)
        for ours, theirs in zip(self._cache.layers, other._cache.layers, strict=True):
            columns = max(ours.keys.shape[-2], theirs.keys.shape[-2])
            ours.keys = torch.cat([_widened(layer.keys, columns) for layer in (ours, theirs)])
            ours.values = torch.cat([_widened(layer.values, columns) for layer in (ours, theirs)])
            if hasattr(ours, "cumulative_length"):
                ours.cumulative_length = width
        self._width = width
        self._lengths = torch.cat([self._lengths, other._lengths])
        self._counts += other._counts
        # Read again only past a switch, where no batch is joined.
        self._ids = torch.empty(len(self._lengths), 0)
        self._mask = self._unpadded()

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token per row, [B]; return the fp32 logits [B, V] of the next one."""
        positions = self._lengths[:, None].clone()
        self._lengths += 1
        self._counts = [count + 1 for count in self._counts]
        self._width += 1
        if self._mask is not None:
            self._mask = functional.pad(self._mask, (0, 1), value=1)
        if self._memory is None or self._switch is not None:
            self._ids = torch.cat([self._ids, tokens[:, None]], dim=1)
        if self._memory is None:
            return self._read_all()
        # Past the switch, rotary frequencies change. The cached keys were rotated for shorter texts: read everything
        # again.
        if self._width - 1 == self._switch:
            self._cache = _new_cache(self._model)
            return self._read_all()
        return self._forward(tokens[:, None], positions)

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order, and drop the others."""
        index = send(rows, self._device)
        if self._cache is not None:
            # Not batch_select_indices, which leaves the states of convolution layers unchanged.
            self._cache.reorder_cache(index)
        self._ids, self._lengths = self._ids[index], self._lengths[index]
        self._counts = [self._counts[row] for row in rows]
        if self._mask is not None:
            self._mask = self._mask[index]
            if max(self._counts) < self._width and self.takes_more:
                self._trim(max(self._counts))

    def _trim(self, width: int) -> None:
        """Drop the columns on the left that are padding in every row.

        Why: while rows come and go, there would be a column more with every token, for as long as the batch lives.
        """
        for layer in self._cache.layers:
            columns = min(layer.keys.shape[-2], width)
            layer.keys, layer.values = layer.keys[..., -columns:, :], layer.values[..., -columns:, :]
            if hasattr(layer, "cumulative_length"):
                layer.cumulative_length = width
        self._width = width
        self._mask = self._unpadded() if min(self._counts) < width else None

    def _forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        inputs: dict[str, Any] = {"input_ids": ids, "use_cache": self._memory is not None}
        if self._memory is not None:
            inputs[self._memory] = self._cache
        # Mamba's step takes no mask: it has already passed the padding, and would multiply a mask of another width
        # into it.
        if self._mask is not None and not (self._memory == "cache_params" and ids.shape[1] == 1):
            inputs["attention_mask"] = self._mask
        if "position_ids" in self._accepts:
            inputs["position_ids"] = positions
        if "logits_to_keep" in self._accepts:
            inputs["logits_to_keep"] = 1
        # A config may enable a mixture's router loss, which does not work with a cache.
        if "output_router_logits" in self._accepts:
            inputs["output_router_logits"] = False
        logits: Tensor = self._model(**inputs).logits[:, -1]
        return logits.float()


def _widened(states: Tensor, columns: int) -> Tensor:
    """Return keys or values [B, heads, columns, width] with padding on the left."""
    return functional.pad(states, (0, 0, columns - states.shape[-2], 0))


def rows_at_once(model: torch.nn.Module, longest: int) -> int:
    """Return how many rows may be answered together.

    It is one if the model has no common cache, or if its rotary frequencies depend on the longest row.

    Args:
        model: The model.
        longest: Length of the longest prompt plus its longest answer, in tokens.
    """
    switch = switch_of(model)
    alone = memory_of(model) is None or (switch is not None and longest > switch)
    return 1 if alone else MAX_ROWS


def _new_cache(model: torch.nn.Module) -> Any:
    from transformers import DynamicCache

    return DynamicCache(config=model.config)


def memory_of(model: torch.nn.Module) -> str | None:
    """Return the name of the argument that takes transformers' common cache; None if the model has no such cache."""
    if not underlying(model)._supports_default_dynamic_cache():
        return None
    accepts = _forward_parameters(model)
    return next((name for name in ("past_key_values", "cache_params") if name in accepts), None)


def _forward_parameters(model: torch.nn.Module) -> frozenset[str]:
    """Return the argument names of the model's own forward, below an adapter's wrapper."""
    return frozenset(inspect.signature(underlying(model).forward).parameters)
