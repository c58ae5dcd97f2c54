from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.training.steps import BIG, FailsOnce, close, train, weights_of
from tests.training.tiny import LearnerMaker, invented_examples

from instil.conversation import Example
from instil.errors import NonFiniteError, OutOfMemoryError, TrainingError
from instil.model.gradient_checkpointing import set_gradient_checkpointing
from instil.training.step.learner import Cut, Learner
from instil.training.step.order import plan_order
from instil.training.step.take_step import take_step


def test_gradient_checkpointing_changes_nothing(make_learner: LearnerMaker, examples: list[Example]):
    calls = []

    def recompute(model: Any) -> Any:
        set_gradient_checkpointing(model, True)
        model.model.layers[0].mlp.gate_proj.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
        return model

    plain, recomputed = make_learner(examples), make_learner(examples, change=recompute)
    forward_passes = 0

    def count(*_: object) -> None:
        nonlocal forward_passes
        forward_passes += 1

    recomputed.loss.register_forward_hook(count)
    assert train(plain, cut=30) == pytest.approx(train(recomputed, cut=30), abs=1e-6)
    assert close(plain, recomputed, tolerance=1e-6)
    assert len(calls) == 2 * forward_passes


@pytest.mark.parametrize("cut", [1, 7, 25, 40])
def test_the_cut_does_not_change_losses_or_weights(make_learner: LearnerMaker, examples: list[Example], cut: int):
    whole, in_parts = make_learner(examples), make_learner(examples)
    assert train(whole) == pytest.approx(train(in_parts, cut=cut), abs=1e-5)
    assert close(whole, in_parts, tolerance=2e-5)


def test_one_example_a_forward_pass_equals_flat(make_learner: LearnerMaker, examples: list[Example]):
    flat, alone = make_learner(examples), make_learner(examples, one_by_one=True)
    assert train(flat) == pytest.approx(train(alone), abs=1e-5)


def test_noise_does_not_depend_on_the_cut(make_learner: LearnerMaker, examples: list[Example]):
    whole, in_parts = make_learner(examples, neftune_alpha=5.0), make_learner(examples, neftune_alpha=5.0)
    noisy = train(whole)
    assert noisy == pytest.approx(train(in_parts, cut=12), abs=1e-5)
    assert noisy != pytest.approx(train(make_learner(examples)), abs=1e-3)


def test_weights_scaled_by_a_constant_change_nothing(make_learner: LearnerMaker):
    one, four = make_learner(invented_examples(9)), make_learner(invented_examples(9, weight=4.0))
    assert train(one) == pytest.approx(train(four), abs=1e-6)
    assert close(one, four, tolerance=1e-6)


def test_the_loss_is_the_weighted_mean_over_the_whole_step(make_learner: LearnerMaker, examples: list[Example]):
    learner = make_learner(examples)
    total = weight = 0.0
    for example in examples:
        ids = torch.tensor([list(example.token_ids)])
        from transformers import LlamaForCausalLM

        model = learner.loss.model
        assert isinstance(model, LlamaForCausalLM)
        model.set_attn_implementation("eager")
        logits = model(ids).logits[0, :-1].log_softmax(-1)
        model.set_attn_implementation("instil")
        chosen = -logits.gather(1, ids[0, 1:, None]).squeeze(1).detach()
        weights = torch.tensor(list(example.weights))[1:]
        total, weight = total + float((chosen * weights).sum()), weight + float(weights.sum())
    assert train(learner, steps=1, batch_size=len(examples))[0] == pytest.approx(total / weight, abs=1e-5)


def test_every_parameter_moves(make_learner: LearnerMaker, examples: list[Example]):
    learner = make_learner(examples)
    before = weights_of(learner)
    train(learner, steps=2)
    still = [name for name, weight in weights_of(learner).items() if torch.equal(weight, before[name])]
    assert before
    assert not still


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "adafactor"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "pure_bf16"])
def test_every_optimizer_and_precision_learns(
    make_learner: LearnerMaker, examples: list[Example], optimizer: str, precision: str
):
    losses = train(make_learner(examples, optimizer=optimizer, precision=precision), steps=12, batch_size=11)
    assert losses[-1] < losses[0] - 0.1


def test_a_step_without_a_trained_token_stops_and_names_its_rows(make_learner: LearnerMaker, examples: list[Example]):
    blank = [replace(example, weights=[0.0] * len(example.weights)) for example in examples]
    learner = make_learner(blank)
    before = weights_of(learner)
    with pytest.raises(TrainingError, match=r"no token of its 4 examples is trained .*rows.jsonl:\d+"):
        train(learner)
    assert all(torch.equal(weight, before[name]) for name, weight in weights_of(learner).items())


def poison(learner: Learner) -> None:
    with torch.no_grad():
        learner.loss.model.get_input_embeddings().weight[:] = math.nan


def test_a_loss_that_is_not_finite_stops_before_the_weights_move(make_learner: LearnerMaker, examples: list[Example]):
    learner = make_learner(examples)
    poison(learner)
    before = weights_of(learner)
    with pytest.raises(NonFiniteError, match=r"step 1: the loss is nan; its rows are rows.jsonl:\d+"):
        train(learner)
    assert all(
        torch.equal(
            weight,
            before[n],
        )
        or weight.isnan().all()
        for n, weight in weights_of(learner).items()
    )


def test_skip_step_leaves_the_step_out(make_learner: LearnerMaker, examples: list[Example]):
    learner = make_learner(examples)
    order = plan_order(len(examples), batch_size=4, max_steps=2)
    hook = learner.loss.model.register_forward_hook(lambda *_: None)
    name, weight = next(iter(learner.weights.by_name.items()))
    bad = weight.register_hook(lambda gradient: gradient * math.inf)
    before, said = weights_of(learner), []
    result = take_step(
        learner, order.members(1), cut=Cut(BIG), seed=0, learning_rate=1.0, skip_nonfinite=True, say=said.append
    )
    assert not result.moved
    assert all(torch.equal(now, before[key]) for key, now in weights_of(learner).items())
    assert "rows.jsonl" in said[0]
    assert "the step is skipped" in said[0]
    bad.remove()
    hook.remove()
    assert take_step(learner, order.members(2), cut=Cut(BIG), seed=0, learning_rate=1.0).moved
    assert name


def test_out_of_memory_halves_the_cut_and_gives_the_same_result(make_learner: LearnerMaker, examples: list[Example]):
    whole, tight = make_learner(examples, neftune_alpha=5.0), make_learner(examples, neftune_alpha=5.0)
    FailsOnce(tight, limit=30)
    said: list[str] = []
    assert train(whole) == pytest.approx(train(tight, say=said.append), abs=1e-5)
    assert close(whole, tight, tolerance=2e-5)
    assert said
    assert "out of memory" in said[0]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_out_of_memory_in_the_middle_leaves_no_trace(
    make_learner: LearnerMaker, examples: list[Example], precision: str
):
    """The second micro-batch fails in its backward pass, when the first has left gradients and has drawn its dropout."""
    settings = {"neftune_alpha": 5.0, "dropout": 0.3, "precision": precision}
    order = plan_order(len(examples), batch_size=8, max_steps=1)
    interrupted, small = make_learner(examples, **settings), make_learner(examples, **settings)
    passes: list[int] = []

    def fail_once(gradient: torch.Tensor) -> None:
        passes.append(1)
        if len(passes) == 2:
            raise torch.OutOfMemoryError("out of memory")

    norm = interrupted.loss.model.get_decoder().norm
    norm.register_forward_hook(lambda module, inputs, output: output.register_hook(fail_once) and None)
    step = {"seed": 3, "learning_rate": 1e-2, "clip": 1.0, "say": lambda text: None}
    result = take_step(interrupted, order.members(1), cut=Cut(40), **step)
    assert len(passes) > 3
    assert result.cut.micro_batch_tokens < 40
    expected = take_step(small, order.members(1), cut=result.cut, **step)
    assert (result.loss, result.gradient_norm, result.tokens) == (
        expected.loss,
        expected.gradient_norm,
        expected.tokens,
    )
    assert close(interrupted, small, tolerance=0.0)


def test_an_optimizer_that_does_not_fit_says_what_to_set(
    make_learner: LearnerMaker, examples: list[Example], monkeypatch: pytest.MonkeyPatch
):
    learner = make_learner(examples)

    def too_much(*given: object, **named: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(learner.optimizers[0], "step", too_much)
    with pytest.raises(OutOfMemoryError, match=r"optimizer's state does not fit.*adamw_8bit"):
        train(learner)


def test_out_of_memory_on_one_example_says_what_to_set(make_learner: LearnerMaker, examples: list[Example]):
    learner = make_learner(examples)
    FailsOnce(learner, limit=2)
    with pytest.raises(
        OutOfMemoryError, match=r"moved\. Continue with resume=True .*, or start another run with data\.max_tokens"
    ):
        train(learner, say=lambda text: None)


def test_fp16_halves_the_loss_scale_until_gradients_are_finite(make_learner: LearnerMaker, examples: list[Example]):
    learner = replace(make_learner(examples), scaled=True)
    first = learner.weights.by_name["model.norm.weight"]
    first.register_hook(lambda gradient: gradient * (math.inf if learner.loss.gradient_scale > 1 else 1.0))
    order = plan_order(len(examples), batch_size=4, max_steps=1)
    result = take_step(learner, order.members(1), cut=Cut(BIG, loss_scale=2.0**16), seed=0, learning_rate=1e-2)
    plain = make_learner(examples)
    expected = take_step(plain, order.members(1), cut=Cut(BIG), seed=0, learning_rate=1e-2)
    assert result.moved
    assert result.cut.loss_scale < 2.0**16
    assert result.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-4)
    assert close(learner, plain, tolerance=1e-5)
