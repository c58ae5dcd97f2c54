"""What goes with what: every combination of the table in docs/how-it-works/training.md, trained for a few steps on one or two processes."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tests.training.pairs import invented_pairs
from tests.training.tiny import CPU, VOCABULARY, invented_examples

from instil.model import offloaded_activations
from instil.model.adapters.lora import prepare_adapters
from instil.model.gradient_checkpointing import set_gradient_checkpointing
from instil.model.loading import load_model
from instil.model.loss.preference import PreferenceLoss
from instil.model.loss.token_loss import TokenLoss
from instil.model.offloaded_activations import OffloadedActivations
from instil.preparation.store import ExampleStore
from instil.recipe import BETAS, AdapterSettings, ModelSettings, Objective
from instil.training.compiling import compile_blocks
from instil.training.preference.reference import ReferencePlan, _compute, prove_start
from instil.training.processes.ranks import Ranks
from instil.training.step.learner import Cut, Learner, Preference
from instil.training.step.optimizer import build_optimizers
from instil.training.step.order import plan_order
from instil.training.step.precision import Precision, Weights, choose_precision
from instil.training.step.sharding import shard
from instil.training.step.take_step import take_step
from instil.training.step.tensor_kinds import tensor_kinds

STEPS = 3
FP16 = Precision("fp16", torch.float16, masters=True, scaled=True)


@dataclass(frozen=True)
class Combination:
    """One cell of the table."""

    trains: str = "full"
    optimizer: str = "adamw"
    precision: str = "fp32"
    sharded: bool = False
    also: str = ""

    @property
    def name(self) -> str:
        words = (self.trains, self.optimizer, self.precision, "sharded" if self.sharded else "", self.also)
        return "-".join(word for word in words if word)


OPTIMIZERS = ("adamw", "adamw_8bit", "muon", "adafactor")
PRECISIONS = ("fp32", "bf16", "pure_bf16", "fp16")
REPLICATED = [
    *(Combination(t, o, p) for t in ("full", "lora") for o in OPTIMIZERS for p in PRECISIONS),
    *(Combination(t, o, p) for t in ("4bit", "8bit") for o in OPTIMIZERS for p in ("fp32", "bf16")),
    *(Combination(t, also=also) for t in ("full", "lora") for also in ("checkpointing", "noise")),
    *(Combination(t, precision="pure_bf16") for t in ("4bit", "8bit")),
    *(Combination(t, also=also) for t in ("4bit", "8bit") for also in ("rows", "checkpointing")),
    *(Combination("lora", precision=p, also="dora") for p in ("fp32", "bf16", "pure_bf16")),
    *(Combination("lora", o, also="dora") for o in OPTIMIZERS[1:]),
    *(Combination(t, precision=p, also="dora") for t in ("4bit", "8bit") for p in ("fp32", "bf16")),
    *(Combination(t, precision=p, also="dpo") for t in ("full", "lora") for p in PRECISIONS),
    *(Combination(t, precision="bf16", also="dpo") for t in ("4bit", "8bit")),
    *(Combination(t, also=f"dpo {also}") for t in ("full", "lora") for also in ("checkpointing", "noise")),
    *(Combination("lora", also=also) for also in ("kto", "simpo")),
    *(Combination("full", o, also="hosted") for o in OPTIMIZERS),
    Combination("full", precision="bf16", also="hosted"),
    *(Combination(t, also=f"activations{also}") for t in ("full", "lora") for also in ("", " checkpointing")),
]
SHARDED = [
    *(
        Combination("full", o, p, True, "hosted")
        for o, p in (("adamw", "fp32"), ("adamw", "bf16"), ("adamw_8bit", "fp32"))
    ),
    *(
        Combination(t, o, p, True, "offload")
        for t, o, p in (
            ("full", "adamw", "fp32"),
            ("full", "adamw_8bit", "pure_bf16"),
            ("lora", "adamw", "bf16"),
            ("4bit", "adamw", "bf16"),
        )
    ),
    *(
        Combination(t, "adamw", "fp32", True, f"activations{more}")
        for t in ("full", "lora")
        for more in ("", " offload")
    ),
    Combination("4bit", "adamw", "bf16", True, "activations checkpointing"),
    *(
        Combination(t, o, p, sharded=True, also=also)
        for t in ("4bit", "8bit")
        for o, p, also in (
            ("adamw", "fp32", "rows"),
            ("adamw", "bf16", ""),
            ("adamw", "pure_bf16", "rows"),
            ("adamw_8bit", "fp32", ""),
            ("adamw_8bit", "bf16", ""),
            ("adamw", "fp32", "checkpointing"),
            ("adamw", "bf16", "dpo"),
        )
    ),
    *(
        Combination(t, o, p, sharded=True)
        for t in ("full", "lora")
        for o in ("adamw", "adamw_8bit")
        for p in ("fp32", "bf16", "pure_bf16")
    ),
    *(Combination(t, sharded=True, also=also) for t in ("full", "lora") for also in ("checkpointing", "noise")),
    *(
        Combination("lora", precision=p, sharded=True, also=also)
        for p in ("fp32", "bf16", "pure_bf16")
        for also in ("dora", "dora rows")
    ),
    *(
        Combination(t, precision=p, sharded=True, also="dpo")
        for t in ("full", "lora")
        for p in ("fp32", "bf16", "pure_bf16")
    ),
    *(Combination("full", sharded=True, also=also) for also in ("kto", "dpo checkpointing", "dpo noise")),
]
FURTHER = frozenset(
    given.name
    for given in REPLICATED
    if not given.also
    and not (given.trains in ("4bit", "8bit") and given.precision == "pure_bf16")
    and (given.trains in ("lora", "8bit"))
    != (OPTIMIZERS.index(given.optimizer) + PRECISIONS.index(given.precision)) % 2
)
"""Half of a full product. The other half holds each optimizer with each precision, and what is trained with each."""
COMPILED = [
    *(Combination(t, o, also="compile") for t in ("full", "lora") for o in OPTIMIZERS),
    *(Combination(t, precision=p, also="compile") for t in ("full", "lora") for p in PRECISIONS[1:]),
    *(Combination(t, also=f"compile {also}") for t in ("full", "lora") for also in ("checkpointing", "noise")),
    *(Combination("lora", precision=p, also="compile dora") for p in ("fp32", "bf16")),
    *(Combination(t, precision=p, also="compile dpo") for t in ("full", "lora") for p in ("fp32", "bf16")),
]


def objective_of(given: Combination) -> Objective:
    """Return what a combination learns from."""
    return next((word for word in ("dpo", "simpo", "kto") if word in given.also.split()), "sft")  # type: ignore[return-value]


def make_base(folder: Path) -> Path:
    """Write a Llama that is wide enough for 4-bit weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(str(folder))
    return folder


def make_learner(given: Combination, base: Path, ranks: Ranks) -> Learner:
    """Put a learner together as `setup` does, without a tokenizer."""
    precision = FP16 if given.precision == "fp16" else choose_precision(given.precision, CPU)
    quantize: Any = given.trains if given.trains in ("4bit", "8bit") else "none"
    small = given.trains != "full" and precision.compute == torch.bfloat16
    settings = ModelSettings(name=str(base), quantize=quantize)
    model = load_model(settings, precision="pure_bf16" if small else precision.name)
    if given.trains != "full":
        adapter = AdapterSettings(kind="lora", rank=4, dora="dora" in given.also)
        model = prepare_adapters(model, adapter, trained_ids=(3, 9, 11) if "rows" in given.also else ())
    if "checkpointing" in given.also:
        set_gradient_checkpointing(model, True)
    loss = TokenLoss(model, neftune_alpha=5.0 if "noise" in given.also else None)
    if "activations" in given.also:
        offloaded_activations.SHARED_MEMORY = frozenset()  # copies are made on a CPU too
        OffloadedActivations(model)
    if "compile" in given.also:
        compile_blocks(model)
    if given.sharded and ranks.size > 1:
        shard(loss, precision, device=CPU, offload="offload" in given.also)
        packed = [value for value in model.parameters() if not value.is_floating_point()]
        assert bool(packed) == (quantize != "none")
        assert all(2 * value.to_local().numel() == value.numel() for value in packed)
    weights = Weights(model, precision, sharded=given.sharded and ranks.size > 1)
    optimizers = build_optimizers(
        weights.by_name,
        tensor_kinds(model),
        name=given.optimizer,  # type: ignore[arg-type]
        lr=1e-3,
        weight_decay=0.1,
        state_on_host="hosted" in given.also,
    )
    examples = invented_examples(11) if objective_of(given) == "sft" else invented_pairs(11)
    store = ExampleStore.from_examples(examples)
    return Learner(
        loss.train(),
        weights,
        optimizers,
        store,
        ranks,
        sharded=given.sharded and ranks.size > 1,
        scaled=precision.scaled,
    )


def train_combination(given: Combination, base: Path, ranks: Ranks) -> list[float]:
    """Train for a few steps and give the losses. Of preferences, the start is proved before, and pairs are parted."""
    learner, objective = make_learner(given, base, ranks), objective_of(given)
    together = 1 if objective in ("sft", "kto") else 2
    order = plan_order(len(learner.store) // together, batch_size=4, max_steps=STEPS, seed=3, together=together)
    cut, losses = Cut(30, loss_scale=1024.0 if learner.scaled else 1.0), []
    if objective != "sft":
        loss = PreferenceLoss(objective, beta=BETAS[objective])
        plan = ReferencePlan(order, learner.store.select([]), loss, None, given.precision)
        reference = _compute(learner, plan, Cut(1000)) if loss.needs_reference else None
        learner = replace(learner, preference=Preference(loss, reference))
        prove_start(learner, order, cut=cut, exact=given.precision == "fp32")
    for step in range(1, STEPS + 1):
        result = take_step(learner, order.members(step), cut=cut, seed=3, learning_rate=1e-3, clip=1.0)
        assert result.moved
        cut = result.cut
        losses.append(result.loss)
    return losses


def main(base: str, found: str, names: Collection[str]) -> None:
    """Train combinations as one of two processes; the first writes their losses."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    ranks = Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), CPU)
    losses: dict[str, Any] = {}
    for given in (given for given in [*REPLICATED, *SHARDED] if given.name in names):
        try:
            losses[given.name] = train_combination(given, Path(base), ranks)
        except Exception as error:
            losses[given.name] = f"{type(error).__name__}: {error}"
    if ranks.is_first:
        Path(found).write_text(json.dumps(losses))
    dist.destroy_process_group()
