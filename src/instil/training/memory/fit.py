"""Decide how the steps of a run are cut into micro-batches, so that they fit into memory.

`instil plan` prints the decision. A run takes `micro_batch_tokens: auto` and `gradient_checkpointing: auto` from it.

Why: `plan` makes the model on torch's meta device. It can therefore answer for an 8B model on a laptop without loading
a weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from instil.model.speedups.round_sizes import round_up
from instil.preparation.store import ExampleStore
from instil.training.memory.estimate import Memory, Sizes, estimate_memory
from instil.training.step.micro_batch import cut_step
from instil.training.step.order import Order
from instil.training.step.precision import Precision
from instil.units import byte_size

LARGEST = {"cpu": 2048, "cuda": 16384}
"""Tokens of a micro-batch beyond which nothing becomes faster, by device."""
LARGEST_ELSEWHERE = 4096
SMALLEST = 256
"""Tokens below which `auto` does not halve a micro-batch again."""
USABLE = 0.9
"""Share of the free memory that a plan may use."""
STEPS_EXAMINED = 200
"""Steps whose micro-batches are laid out to find the largest one."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What the memory of a run depends on, wherever it runs.

    Attributes:
        sizes: What memory depends on in the model.
        precision: How the run computes.
        store: The training examples.
        order: Which examples are in which step.
        micro_batch_tokens: Tokens of a micro-batch, or `auto`.
        gradient_checkpointing: Whether activations are recomputed: `on`, `off` or `auto`.
        optimizer: Name of the optimizer.
        quantize: How frozen weights are stored.
        offload: What is kept in the machine's memory: `none`, `optimizer` or `all`.
        offload_activations: Whether activations are kept there too.
    """

    sizes: Sizes
    precision: Precision
    store: ExampleStore
    order: Order
    micro_batch_tokens: int | Literal["auto"]
    gradient_checkpointing: Literal["auto", "on", "off"]
    optimizer: str
    quantize: str
    offload: Literal["none", "optimizer", "all"] = "none"
    offload_activations: bool = False


@dataclass(frozen=True, slots=True)
class Fit:
    """How a run's steps are cut, and how much memory that needs.

    Attributes:
        micro_batch_tokens: Tokens of one forward pass on one device.
        recompute: Whether the backward pass recomputes activations.
        memory: The memory needed, by kind.
        free: Bytes that the device has for it.
    """

    micro_batch_tokens: int
    recompute: bool
    memory: Memory
    free: int

    @property
    def fits(self) -> bool:
        """Whether the peak is expected to fit."""
        return self.memory.peak <= self.free * USABLE

    @property
    def verdict(self) -> str:
        """The decision in words; where it does not fit, with what to change."""
        needs = f"needs about {byte_size(self.memory.peak)} of the {byte_size(self.free)} that are free"
        recomputed = ", activations recomputed" if self.recompute else ""
        host = f", {byte_size(self.memory.host)} in the machine's memory" if self.memory.host else ""
        cut = f"micro-batches of {self.micro_batch_tokens:,} tokens{recomputed}{host}"
        if self.fits:
            return f"fits: {needs}; {cut}"
        return (
            f"will probably not fit: {needs}; {cut}; set adapter.kind: lora, model.quantize: 4bit, "
            "data.max_tokens lower, or parallel.mode: sharded over more processes"
        )


def find_fit(
    workload: Workload,
    *,
    device: torch.device,
    free: int,
    num_ranks: int = 1,
    sequence: int = 1,
    sharded: bool = False,
    one_by_one: bool = False,
) -> Fit:
    """Decide the size of micro-batches and gradient checkpointing, where the recipe leaves them open.

    Recomputing is tried last, because it costs time. If nothing fits, the last attempt is returned.

    Args:
        workload: What memory depends on.
        device: Where the run computes.
        free: Bytes that the device has for everything, weights included.
        num_ranks: Processes that share each step.
        sequence: Processes that share the tokens of each micro-batch.
        sharded: Whether weights, gradients and optimizer state are sharded over them.
        one_by_one: Whether a forward pass takes one example only.
    """
    longest = -(-int(workload.store.num_tokens.max()) // sequence)
    requested = workload.micro_batch_tokens
    fit = None
    for recompute in {"off": (False,), "on": (True,), "auto": (False, True)}[workload.gradient_checkpointing]:
        tokens = max(LARGEST.get(device.type, LARGEST_ELSEWHERE), longest) if requested == "auto" else requested
        while True:
            cut = examine_cut(workload, tokens * sequence, num_ranks=num_ranks // sequence, one_by_one=one_by_one)
            memory = estimate_memory(
                workload.sizes,
                workload.precision,
                tokens=-(-cut.largest // sequence),
                optimizer=workload.optimizer,
                several=cut.several,
                num_sizes=cut.num_sizes,
                recompute=recompute,
                quantize=workload.quantize,
                device=device.type,
                shards=num_ranks if sharded else 1,
                offload=workload.offload,
                offload_activations=workload.offload_activations,
            )
            fit = Fit(tokens, recompute, memory, free)
            if fit.fits:
                return fit
            # A requested size is kept, and no micro-batch is smaller than the longest example.
            if requested != "auto" or tokens <= max(SMALLEST, longest):
                break
            tokens = max(tokens // 2, SMALLEST, longest)
    assert fit is not None
    return fit


@dataclass(frozen=True, slots=True)
class CutSummary:
    """The micro-batches of the first steps.

    Attributes:
        largest: Tokens of the largest one.
        several: Whether a step has more than one.
        num_sizes: Number of different sizes after rounding up (see `model.speedups.round_sizes`).
    """

    largest: int
    several: bool
    num_sizes: int


def examine_cut(workload: Workload, tokens: int, *, num_ranks: int, one_by_one: bool = False) -> CutSummary:
    """Cut the first steps into micro-batches of at most `tokens` tokens, and summarise them."""
    order, store = workload.order, workload.store
    several, sizes = False, {1}
    for step in range(1, min(order.num_steps, STEPS_EXAMINED) + 1):
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
    return CutSummary(max(sizes), several, len({round_up(size) for size in sizes}))
