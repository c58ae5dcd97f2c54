"""Models, rows and steps of instil for gpu.py: built as a run builds them, on random weights and ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from gpu_device import Device
from shapes import build_config

LORA_RANK = 16
VOCABULARY = 512
"""Tokens of a tiny shape, whose own vocabulary would be nearly all of its time."""


@dataclass(frozen=True)
class Work:
    """What is trained, and how.

    Attributes:
        shape: Key of `SHAPES`.
        adapter: `full` or `lora`.
        precision: As in a recipe.
        tokens: Tokens of a micro-batch.
        micro_batches: Micro-batches of a step.
        optimizer: As in a recipe.
        recompute: Whether activations are recomputed; None as `gradient_checkpointing: auto` decides.
        compiled: Whether blocks are compiled, as `compile: auto` does on a GPU.
        lr: Learning rate.
    """

    shape: str
    adapter: str = "full"
    precision: str = "bf16"
    tokens: int = 8192
    micro_batches: int = 4
    optimizer: str = "adamw"
    recompute: bool | None = False
    compiled: bool = False
    lr: float = 1e-5


def config_of(shape: str) -> Any:
    """Return the transformers config of a shape; `tiny-` before its name has small sizes and `VOCABULARY` tokens."""
    return build_config(shape, **({"vocab_size": VOCABULARY} if shape.startswith("tiny-") else {}))


def rows_of_step(step: int, vocabulary: int, tokens: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw the rows of a step as ids and weights, the same for all sides."""
    random, rows, left = np.random.default_rng(step), [], tokens
    while left > 16:
        length = int(min(4096, left, max(16, random.lognormal(6.0, 0.8))))
        ids = random.integers(10, vocabulary - 10, length).astype(np.int32)
        weights = (np.arange(length) >= 0.6 * length).astype(np.float32)
        rows.append((ids, weights))
        left -= length
    return rows


def build_model(work: Work, device: torch.device, *, seed: int = 0) -> Any:
    """Return a random model with its adapters, in the types in which a run loads it."""
    from transformers import AutoModelForCausalLM

    from instil.model.attention.flat import register_attention
    from instil.model.loading import weight_type

    frozen = work.adapter != "full"
    dtype = weight_type(work.precision, "training", frozen=frozen)  # type: ignore[arg-type]
    torch.manual_seed(seed)
    with device:
        model = AutoModelForCausalLM.from_config(
            config_of(work.shape), dtype=dtype, attn_implementation=register_attention()
        )
    return with_adapters(model, work, device)


def with_adapters(model: Any, work: Work, device: torch.device) -> Any:
    """Return a model with instil's layers for a device, and with the adapters of a work."""
    from instil.model.adapters.lora import prepare_adapters
    from instil.model.loading import lighten_layers
    from instil.recipe import AdapterSettings

    lighten_layers(model, device)
    kind = "none" if work.adapter == "full" else "lora"
    return prepare_adapters(model, AdapterSettings(kind=kind, rank=LORA_RANK)).train()


class Training:
    """A model that trains step by step.

    Attributes:
        model: The model, with its adapters.
        learner: What instil's step takes.
        rows: Rows of each step.
        estimate: Instil's estimate of the memory of a step.
        recompute: Whether activations are recomputed.
    """

    def __init__(
        self, work: Work, model: Any, device: Device, *, steps: int, quantize: str = "none", sharded: bool = False
    ) -> None:
        """Put a model into its loss, with optimizers and rows.

        Args:
            work: What is trained.
            model: The model on the device.
            device: Where it trains.
            steps: Steps to draw rows for.
            quantize: How the frozen weights are stored.
            sharded: Whether to lay the weights in shards over the process group.
        """
        from instil.conversation import Example
        from instil.model.gradient_checkpointing import set_gradient_checkpointing
        from instil.model.loss.token_loss import TokenLoss
        from instil.preparation.store import ExampleStore
        from instil.training.compiling import compile_blocks
        from instil.training.memory.estimate import estimate_memory, measure_sizes
        from instil.training.processes.ranks import Ranks
        from instil.training.step.learner import Learner
        from instil.training.step.optimizer import build_optimizers
        from instil.training.step.precision import Weights, choose_precision
        from instil.training.step.sharding import shard
        from instil.training.step.tensor_kinds import tensor_kinds

        self.work, self.device, self.model = work, device, model
        precision = choose_precision(work.precision, device.torch)
        # Packed weights hide their shapes; the model without bytes shows them.
        sizes = measure_sizes(
            model if quantize == "none" else build_model(work, torch.device("meta")).train(), precision
        )
        self.recompute = bool(work.recompute)
        for recompute in (False, True) if work.recompute is None else (self.recompute,):
            self.recompute = recompute
            self.estimate = estimate_memory(
                sizes,
                precision,
                tokens=work.tokens,
                optimizer=work.optimizer,
                several=work.micro_batches > 1,
                recompute=recompute,
                quantize=quantize,
                device="cpu" if device.kind == "cpu" else "cuda",
            )
            if self._fits():
                break
        set_gradient_checkpointing(model, self.recompute)
        loss = TokenLoss(model).train()
        if sharded:
            shard(loss, precision, device=device.torch)
        if work.compiled and not device.is_faked:
            compile_blocks(model)
        weights = Weights(model, precision, sharded=sharded)
        optimizers = build_optimizers(
            weights.by_name,
            tensor_kinds(model),
            name=work.optimizer,  # type: ignore[arg-type]
            lr=work.lr,
        )
        vocabulary = model.config.get_text_config().vocab_size
        self.rows = [rows_of_step(step, vocabulary, work.tokens * work.micro_batches) for step in range(steps)]
        store = ExampleStore.from_examples([Example(ids, values) for rows in self.rows for ids, values in rows])
        self.learner = Learner(loss, weights, optimizers, store, Ranks(0, 1, device.torch), sharded=sharded)
        self._first, self._step = 0, 0

    def _fits(self) -> bool:
        from instil.training.memory.fit import USABLE
        from instil.training.memory.usage import free_memory

        if self.device.is_faked:
            return True
        loaded = sum(value.numel() * value.element_size() for value in self.model.parameters())
        return self.estimate.peak <= (free_memory(self.device.torch) + loaded) * USABLE

    def step(self) -> Any:
        """Take the next step, and return its result."""
        from instil.training.step.learner import Cut
        from instil.training.step.order import Members
        from instil.training.step.take_step import take_step

        rows = self.rows[self._step]
        self._step += 1
        members = Members(self._step, 0, tuple(range(self._first, self._first + len(rows))))
        self._first += len(rows)
        return take_step(self.learner, members, cut=Cut(self.work.tokens), seed=0, learning_rate=self.work.lr, clip=1.0)


def losses(work: Work, device: Device, *, steps: int, like: Any = None, sharded: bool = False) -> list[float]:
    """Train and return the loss of each step.

    Args:
        work: What is trained.
        device: Where.
        steps: Number of steps.
        like: State of a model to begin with; None for random weights.
        sharded: Whether weights lie in shards.
    """
    model = build_model(work, torch.device("cpu"))
    if like is not None:
        model.load_state_dict(like)
    training = Training(work, model.to(device.torch), device, steps=steps, sharded=sharded)
    return [training.step().loss for _ in range(steps)]


def largest_difference(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the largest relative difference between two sequences."""
    return max(abs(a - b) / max(abs(b), 1e-9) for a, b in zip(first, second, strict=True))


def tiny(work: Work, device: Device) -> Work:
    """Return a work as it is, or in a rehearsal its smallest form."""
    if not device.is_faked:
        return work
    shape = work.shape if work.shape.startswith("tiny-") else f"tiny-{work.shape}"
    return replace(work, shape=shape, tokens=min(work.tokens, 128), micro_batches=min(work.micro_batches, 2))
