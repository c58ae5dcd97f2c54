from __future__ import annotations

from typing import Any

import pytest
from tests.training.tiny import CPU, invented_examples

from instil.preparation.store import ExampleStore
from instil.recipe import Recipe
from instil.training.memory.estimate import PASSING_CPU, Sizes
from instil.training.memory.fit import Fit, Workload, find_fit
from instil.training.step.order import plan_order
from instil.training.step.precision import choose_precision

MB = 2**20


SIZES = Sizes(
    parameters=10 * MB,
    trained=10 * MB,
    vocabulary=1000,
    width=64,
    trains_head=True,
    saved_per_token=1.0 * MB,
    saved_with_recomputing=0.1 * MB,
)


def fit_into(free_mb: float, *, ways: dict[str, Any] | None = None, **training: Any) -> Fit:
    store = ExampleStore.from_examples(invented_examples(800))
    recipe = Recipe.from_mapping({"training": {"batch_size": 200, **training}})
    order = plan_order(len(store), batch_size=200, max_steps=4)
    precision = choose_precision("fp32", CPU)
    workload = Workload(
        SIZES,
        precision,
        store,
        order,
        micro_batch_tokens=recipe.training.micro_batch_tokens,
        gradient_checkpointing=recipe.training.gradient_checkpointing,
        optimizer=recipe.optimizer.name,
        quantize=recipe.model.quantize,
    )
    return find_fit(workload, device=CPU, free=int(free_mb * MB), **ways or {})


def test_micro_batches_are_halved_until_they_fit():
    wide, tight = fit_into(100_000), fit_into(1200)
    assert wide.fits
    assert tight.fits
    assert wide.micro_batch_tokens == 2048
    assert tight.micro_batch_tokens == 512
    assert not wide.recompute
    assert not tight.recompute


def test_activations_are_recomputed_only_where_nothing_else_helps():
    smallest = fit_into(450)
    assert smallest.fits
    assert smallest.recompute
    assert fit_into(450, gradient_checkpointing="off").fits is False
    assert fit_into(100_000, gradient_checkpointing="on").recompute


def test_shards_and_single_examples_need_less():
    """What a run does counts, not what its recipe says: torchrun starts processes that no recipe names, and `auto` may shard."""
    whole, two = fit_into(100_000), fit_into(100_000, ways={"num_ranks": 2, "sharded": True})
    for kind in ("weights", "gradients", "optimizer"):
        assert getattr(two.memory, kind) == getattr(whole.memory, kind) // 2
    alone = fit_into(100_000, ways={"one_by_one": True})
    assert alone.memory.activations == int(20 * MB * PASSING_CPU) < whole.memory.activations / 50


def test_an_asked_cut_is_kept_and_the_verdict_says_what_to_do():
    fit = fit_into(200, micro_batch_tokens=1024)
    assert fit.micro_batch_tokens == 1024
    assert not fit.fits
    assert "will probably not fit: needs about" in fit.verdict
    assert "adapter.kind: lora" in fit.verdict
    assert fit_into(100_000).verdict.startswith("fits: needs about")


def test_shared_tokens_divide_the_activations():
    alone, shared = (
        fit_into(100_000, ways={"num_ranks": 2, "sequence": sequence}, micro_batch_tokens=20) for sequence in (1, 2)
    )
    # One example of 20 tokens is the longest: 20 tokens on each, or two examples of at most 40 tokens on both.
    assert shared.memory.activations <= alone.memory.activations
    longest = [fit_into(100_000, ways={"num_ranks": 4, "sequence": n}, micro_batch_tokens=1) for n in (1, 2, 4)]
    tokens = [fit.memory.activations / MB / PASSING_CPU for fit in longest]
    assert tokens == pytest.approx([20, 10, 5])
    for kind in ("weights", "gradients", "optimizer"):
        assert len({getattr(fit.memory, kind) for fit in longest}) == 1
