"""Runs whose processes share the tokens of their micro-batches: each case trained for a few steps, whose losses, gradients and weights are kept."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tests.model.tiny import SMALL, VOCABULARY, tiny_model
from tests.training.pairs import invented_pairs
from tests.training.tiny import CPU, invented_examples
from torch.distributed.tensor import DTensor

from instil.model.adapters.lora import prepare_adapters
from instil.model.gradient_checkpointing import set_gradient_checkpointing
from instil.model.loss.preference import PreferenceLoss
from instil.model.loss.token_loss import TokenLoss
from instil.preparation.store import ExampleStore
from instil.recipe import BETAS, AdapterSettings, Objective
from instil.training.preference.reference import ReferencePlan, _compute, prove_start
from instil.training.processes.join import sequence_group
from instil.training.processes.ranks import Ranks
from instil.training.step import take_step as step_module
from instil.training.step.heldout import heldout_loss
from instil.training.step.learner import Cut, Learner, Preference
from instil.training.step.optimizer import build_optimizers
from instil.training.step.order import Order, plan_order
from instil.training.step.precision import Weights, choose_precision
from instil.training.step.sharding import shard
from instil.training.step.take_step import take_step
from instil.training.step.tensor_kinds import tensor_kinds

STEPS = 2
RATE = 1e-3


@dataclass(frozen=True)
class Case:
    """What is trained, on how many processes, and how many of them share a micro-batch."""

    model: str
    processes: int = 2
    sequence: int = 2
    also: str = ""
    objective: Objective = "sft"
    precision: str = "fp32"
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        words = (self.model, f"{self.processes}by{self.sequence}", self.also, self.objective, self.precision)
        heads = f"heads{self.settings['num_attention_heads']}" if self.settings else ""
        return "-".join(word.replace(" ", "-") for word in (*words, heads) if word and word not in ("sft", "fp32"))


def _heads(queries: int, keys: int) -> dict[str, Any]:
    return SMALL | {"num_attention_heads": queries, "num_key_value_heads": keys, "hidden_size": 8 * queries}


CASES = [
    # Grouped heads, windows, soft caps, sinks, chunks, positions of a table, values of another width.
    *(Case(name, n, n) for n in (2, 4) for name in ("llama", "gemma3_text", "gpt_oss")),
    *(Case(name) for name in ("gemma2", "qwen2", "llama4_text", "gpt2", "deepseek_v3")),
    # Heads that the processes do not divide.
    *(Case("llama", 4, 4, settings=_heads(*heads)) for heads in ((6, 2), (9, 3), (5, 1))),
    # Two groups of two, as data parallelism.
    *(Case("llama", 4, 2, also=also) for also in ("", "noise", "sharded", "router")),
    *(Case("llama", also=also) for also in ("noise", "checkpointing", "lora", "lora rows dora", "long", "one")),
    *(Case("mixtral", n, n, also="router") for n in (2, 4)),
    *(Case("llama", also=also) for also in ("sharded", "sharded noise checkpointing", "sharded lora rows")),
    *(Case("llama", objective=objective) for objective in ("dpo", "simpo", "kto")),
    Case("llama", 4, 2, objective="dpo", also="lora"),
    Case("llama", 4, 2, objective="kto"),
    Case("llama", objective="dpo", also="parted"),
    Case("llama", objective="dpo", also="sharded"),
    Case("mistral", precision="bf16"),
]
CASES = [replace(case, model="mixtral") if case.also == "router" else case for case in CASES]


@dataclass(frozen=True)
class Outcome:
    """What a case gave.

    Attributes:
        losses: The loss of each step.
        norms: The gradient's norm of each step, before clipping.
        tokens: Tokens and trained tokens of each step.
        gradients: The gradients of the first step, by name.
        weights: The trained weights at the end, by name.
        heldout: The held-out loss at the end; None for preferences.
    """

    losses: list[float]
    norms: list[float]
    tokens: list[tuple[int, int]]
    gradients: dict[str, torch.Tensor]
    weights: dict[str, torch.Tensor]
    heldout: float | None


def make_learner(case: Case, ranks: Ranks) -> Learner:
    """Put a learner together as `setup` does, without a tokenizer."""
    words, precision = case.also.split(), choose_precision(case.precision, CPU)
    model = tiny_model(case.model, settings=dict(case.settings) or None)
    if "lora" in words:
        adapter = AdapterSettings(kind="lora", rank=4, dora="dora" in words)
        model = prepare_adapters(model, adapter, trained_ids=(3, 9, 11) if "rows" in words else ())
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():  # a new adapter's B is 0, and A would have no gradient
            for name, value in model.named_parameters():
                if "lora_B" in name:
                    value.add_(torch.randn(value.shape, generator=generator) * 0.05)
    if "checkpointing" in words:
        set_gradient_checkpointing(model, True)
    sharded = "sharded" in words and ranks.size > 1
    loss = TokenLoss(
        model,
        neftune_alpha=5.0 if "noise" in words else None,
        router_coefficient=0.1 if "router" in words else 0.0,
        few_shapes=precision.compute != torch.float32,
        sequence=ranks.sequence,
    )
    if sharded:
        shard(loss, precision, device=CPU)
    weights = Weights(model, precision, sharded=sharded)
    # A large epsilon: Adam would turn the rounding of gradients near 0 into whole steps.
    optimizers = build_optimizers(
        weights.by_name, tensor_kinds(model), name="adamw", lr=RATE, weight_decay=0.1, eps=1e-3
    )
    examples = invented_examples(11) if case.objective == "sft" else invented_pairs(11)
    if "long" in words:  # each example is longer than a micro-batch
        examples = [replace(one, token_ids=[*one.token_ids] * 4, weights=[*one.weights] * 4) for one in examples]
    if "one" in words:  # fewer tokens than processes
        examples = [replace(one, token_ids=one.token_ids[:2], weights=[0.0, 1.0]) for one in examples[:3]]
    return Learner(loss.train(), weights, optimizers, ExampleStore.from_examples(examples), ranks, sharded=sharded)


def train_case(case: Case, ranks: Ranks) -> Outcome:
    """Train a case as one of the processes."""
    learner = make_learner(case, ranks)
    together = 1 if case.objective in ("sft", "kto") else 2
    order = plan_order(len(learner.store) // together, batch_size=4, max_steps=STEPS, seed=3, together=together)
    cut = Cut(15 if case.also in ("parted", "long") else 1 if case.also == "one" else 45)
    if case.objective != "sft":
        learner = _with_reference(case, learner, order, cut)
    gradients: dict[str, torch.Tensor] = {}
    results = []
    for number in range(1, STEPS + 1):
        with _watched(learner, gradients if number == 1 else {}):
            results.append(take_step(learner, order.members(number), cut=cut, seed=3, learning_rate=RATE, clip=0.5))
    heldout = heldout_loss(learner, learner.store, cut=cut) if case.objective == "sft" else None
    return Outcome(
        [result.loss for result in results],
        [result.gradient_norm for result in results],
        [(result.tokens, result.trained_tokens) for result in results],
        gradients,
        {name: _whole(value) for name, value in learner.weights.by_name.items()},
        heldout,
    )


def _with_reference(case: Case, learner: Learner, order: Order, cut: Cut) -> Learner:
    loss = PreferenceLoss(case.objective, beta=BETAS[case.objective])
    plan = ReferencePlan(order, learner.store.select([]), loss, None, case.precision)
    learner = replace(
        learner, preference=Preference(loss, _compute(learner, plan, cut) if loss.needs_reference else None)
    )
    prove_start(learner, order, cut=cut, exact=True)
    return learner


class _watched:
    """Keeps the gradients of a step, summed over the processes, as the clipping meets them."""

    def __init__(self, learner: Learner, kept: dict[str, torch.Tensor]) -> None:
        self._learner, self._kept, self._reduce = learner, kept, step_module._reduce

    def __enter__(self) -> None:
        def reduce(learner: Learner, *, scale: float) -> torch.Tensor:
            norm = self._reduce(learner, scale=scale)
            for name, value in learner.weights.by_name.items():
                if value.grad is not None:
                    self._kept[name] = _whole(value.grad)
            return norm

        step_module._reduce = reduce

    def __exit__(self, *_: object) -> None:
        step_module._reduce = self._reduce


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return full.detach().clone()


def main(folder: str, names: Collection[str]) -> None:
    """Train cases as one of several processes; each process writes what it got."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    numbers = {case.sequence for case in CASES if case.processes == size}
    groups = {members: sequence_group(rank, size, members) for members in numbers}
    outcomes: dict[str, Any] = {}
    for case in (case for case in CASES if case.name in names and case.processes == size):
        try:
            outcomes[case.name] = train_case(case, Ranks(rank, size, CPU, sequence=groups[case.sequence]))
        except Exception as error:
            outcomes[case.name] = f"{type(error).__name__}: {error}"
    torch.save(outcomes, Path(folder) / f"{size}-{rank}.pt")
    dist.destroy_process_group()


assert VOCABULARY > 64, "the invented examples have ids up to 63"
