"""What a run will cost, and how its steps are cut to fit: before it runs.

`instil plan` prints it; a run decides `micro_batch_tokens: auto` and `gradient_checkpointing: auto` with it. Questionable on
purpose: `plan` makes the model on torch's meta device, so it tells about an 8B model on a laptop without loading it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from instil.model.speedups.round_sizes import round_up
from instil.preparation.store import ExampleStore
from instil.recipe import Recipe
from instil.training.memory.estimate import Memory, Sizes, estimate_memory
from instil.training.step.micro_batch import cut_step
from instil.training.step.order import Order
from instil.training.step.precision import Precision
from instil.units import byte_size

LARGEST = {"cpu": 2048, "cuda": 16384}
"""Tokens of a micro-batch beyond which nothing becomes faster; by device."""
SMALLEST = 256
USABLE = 0.9
LOOKED_AT = 200
"""Steps whose cut is looked at for the largest micro-batch."""
REACHED = {torch.float32: 0.7, torch.bfloat16: 0.4, torch.float16: 0.4}
"""Share of the matrix-multiply rate that a step reaches; measured in benchmarks/RESULTS.md."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How a run's steps are cut, and what that needs.

    Attributes:
        micro_batch_tokens: Tokens of one forward pass.
        recompute: Whether activations are computed again in the backward pass.
        memory: What it needs at its peak.
        free: Bytes that the device has for it.
    """

    micro_batch_tokens: int
    recompute: bool
    memory: Memory
    free: int

    @property
    def fits(self) -> bool:
        """Whether it is expected to fit."""
        return self.memory.peak <= self.free * USABLE

    @property
    def verdict(self) -> str:
        """Say it in plain words."""
        needs = f"needs about {byte_size(self.memory.peak)} of the {byte_size(self.free)} that are free"
        cut = f"micro-batches of {self.micro_batch_tokens:,} tokens" + (
            ", activations recomputed" if self.recompute else ""
        )
        if self.fits:
            return f"fits: {needs}; {cut}"
        return (
            f"will probably not fit: {needs}; {cut}; set adapter.kind: lora, model.quantize: 4bit, "
            "data.max_tokens lower, or parallel.mode: sharded over more processes"
        )


def find_fit(
    recipe: Recipe,
    sizes: Sizes,
    precision: Precision,
    *,
    store: ExampleStore,
    order: Order,
    device: torch.device,
    free: int,
    num_ranks: int = 1,
    sharded: bool = False,
    one_by_one: bool = False,
) -> Fit:
    """Decide `micro_batch_tokens` and gradient checkpointing where the recipe leaves them open.

    Args:
        recipe: The recipe.
        sizes: What memory depends on.
        precision: How the run computes.
        store: The training examples.
        order: Who is in which step.
        device: Where the run computes.
        free: Bytes that the device has for weights and all.
        num_ranks: Processes that share each step.
        sharded: Whether weights, gradients and optimizer state lie in shards over them.
        one_by_one: One example a forward pass.
    """
    asked = recipe.training.micro_batch_tokens
    choice = recipe.training.gradient_checkpointing
    longest = int(store.num_tokens.max())
    ways = {"off": (False,), "on": (True,), "auto": (False, True)}[choice]
    fit = None
    for recompute in ways:
        tokens = max(LARGEST.get(device.type, 4096), longest) if asked == "auto" else asked
        while True:
            cut = look_at_cut(store, order, tokens, num_ranks=num_ranks, one_by_one=one_by_one)
            memory = estimate_memory(
                sizes,
                precision,
                tokens=cut.largest,
                optimizer=recipe.optimizer.name,
                several=cut.several,
                num_sizes=cut.num_sizes,
                recompute=recompute,
                quantize=recipe.model.quantize,
                device=device.type,
                shards=num_ranks if sharded else 1,
            )
            fit = Fit(tokens, recompute, memory, free)
            if fit.fits:
                return fit
            if asked != "auto" or tokens <= max(SMALLEST, longest):
                break
            tokens = max(tokens // 2, SMALLEST, longest)
    assert fit is not None
    return fit


@dataclass(frozen=True, slots=True)
class CutLook:
    """What the first steps' micro-batches are like.

    Attributes:
        largest: Tokens of the largest.
        several: Whether a step has more than one.
        num_sizes: How many sizes there are, rounded up (see `model.few_shapes`).
    """

    largest: int
    several: bool
    num_sizes: int


def look_at_cut(store: ExampleStore, order: Order, tokens: int, *, num_ranks: int, one_by_one: bool = False) -> CutLook:
    """Look at the micro-batches of the first steps, cut at so many tokens."""
    several, sizes = False, {1}
    for step in range(1, min(order.num_steps, LOOKED_AT) + 1):
        indices = order.members(step).indices
        lengths = dict(zip(indices, store.num_tokens[list(indices)].tolist(), strict=True))
        shares = cut_step(
            indices,
            list(lengths.values()),
            micro_batch_tokens=tokens,
            num_ranks=num_ranks,
            one_by_one=one_by_one,
        )
        several = several or len(shares[0]) > 1
        sizes |= {sum(lengths[n] for n in numbers) for share in shares for numbers in share}
    return CutLook(max(sizes), several, len({round_up(size) for size in sizes}))


def estimate_seconds(sizes: Sizes, precision: Precision, *, tokens: int, trained: int, device: torch.device) -> float:
    """Estimate the time of a run from its arithmetic and the device's measured matrix-multiply rate.

    Args:
        sizes: The model.
        precision: How it computes.
        tokens: Tokens of the run.
        trained: Trained tokens of the run; the head sees no others.
        device: Where.
    """
    head = sizes.vocabulary * sizes.width
    inside = max(0, sizes.parameters - head)
    passes = 6 if sizes.trained > sizes.parameters / 2 else 4
    work = passes * (inside * tokens + head * trained)
    return work / (matmul_rate(precision.compute, device) * REACHED[precision.compute])


def matmul_rate(dtype: torch.dtype, device: torch.device, *, size: int = 1024, seconds: float = 0.2) -> float:
    """Measure floating-point operations a second of a matrix product."""
    first, second = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    _ = float((first @ second)[0, 0])
    products, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        result = first @ second
        products += 1
    _ = float(result[0, 0])
    return products * 2 * size**3 / (time.perf_counter() - start)


def plan_lines(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Lay names and texts out in two columns.

    Example:
        >>> plan_lines([("steps", "12")])
        ['steps        12']
    """
    return [f"{name:<12} {text}" for name, text in rows]
