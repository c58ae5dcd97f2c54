"""Steps of preference objectives against plain PyTorch, and against themselves however they are cut."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.pairs import invented_pairs
from tests.training.plain_preference import kto_loss, lengths_of, padded_log_probabilities, pair_loss
from tests.training.steps import BIG, FailsOnce, weights_of
from tests.training.tiny import LearnerMaker

from instil.conversation import Example
from instil.model.loss.preference import PreferenceLoss
from instil.preparation.store import ExampleStore
from instil.training.preference.reference import ReferencePlan, _compute, prove_start
from instil.training.step.clock import Clock
from instil.training.step.learner import Cut, Learner, Preference
from instil.training.step.mismatched import first_trained, mismatched
from instil.training.step.order import plan_order
from instil.training.step.preference_step import add_up_preferences, heldout_comparison
from instil.training.step.take_step import take_step

PAIRED = ("dpo", "ipo", "simpo", "orpo")
BETA = {"dpo": 0.3, "ipo": 0.2, "simpo": 2.0, "orpo": 0.5, "kto": 0.3}


def start(learner: Learner, loss: PreferenceLoss, **order: Any) -> tuple[Learner, Any]:
    """Return a learner that compares answers, with the reference of its weights, and the order of its steps."""
    together = 2 if loss.of_pairs else 1
    settings = {"batch_size": 4, "max_steps": 4, "seed": 3} | order
    planned = plan_order(len(learner.store) // together, together=together, **settings)
    heldout = ExampleStore.from_examples(invented_pairs(3, seed=9))
    reference = None
    if loss.needs_reference:
        reference = _compute(learner, ReferencePlan(planned, heldout, loss, None, "fp32"), Cut(BIG))
    return replace(learner, preference=Preference(loss, reference)), planned


def moved(learner: Learner, scale: float = 0.05) -> None:
    """Move the weights away from the reference, the same in every learner."""
    torch.manual_seed(11)
    for weight in learner.weights.by_name.values():
        weight.data += scale * torch.randn(weight.shape)
    learner.weights.refresh_model()


def gradients(learner: Learner, order: Any, *, cut: int = BIG, step: int = 1) -> tuple[float, dict[str, torch.Tensor]]:
    learner.weights.clear_gradients()
    assert learner.preference is not None
    compared, _, _ = add_up_preferences(
        learner, learner.preference, order.members(step), Cut(cut), seed=3, clock=Clock(learner.ranks.device)
    )
    names = {name: weight.grad.clone() for name, weight in learner.weights.by_name.items() if weight.grad is not None}
    learner.weights.clear_gradients()
    return compared.loss, names


def plain_model(learner: Learner) -> torch.nn.Module:
    """Return a copy with transformers' own attention."""
    model = copy.deepcopy(learner.loss.model).eval()
    model.set_attn_implementation("eager")
    return model


def far(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Return the largest difference of gradients, relative to the largest gradient."""
    most = max(float(value.abs().max()) for value in expected.values())
    return max(float((found[name] - expected[name]).abs().max()) for name in expected) / most


@pytest.mark.parametrize("sft_weight", [0.0, 0.7])
@pytest.mark.parametrize(
    ("objective", "normalized"),
    [*((objective, False) for objective in PAIRED), ("dpo", True), ("ipo", True)],
)
def test_loss_and_gradient_are_those_of_plain_pytorch(
    make_learner: LearnerMaker, objective: str, normalized: bool, sft_weight: float
) -> None:
    loss = PreferenceLoss(
        objective,
        beta=BETA[objective],
        length_normalized=normalized,
        sft_weight=sft_weight,  # type: ignore[arg-type]
    )
    learner, order = start(make_learner(invented_pairs(6)), loss)
    before = plain_model(learner)
    moved(learner)
    found, found_gradients = gradients(learner, order)

    model = plain_model(learner)
    batch = [learner.store[number] for number in order.members(1).indices]
    chosen, rejected = batch[::2], batch[1::2]
    with torch.no_grad():
        reference = padded_log_probabilities(before, chosen), padded_log_probabilities(before, rejected)
    policy = padded_log_probabilities(model, chosen), padded_log_probabilities(model, rejected)
    lengths = lengths_of(chosen), lengths_of(rejected)
    expected = pair_loss(objective, policy, reference, lengths, beta=BETA[objective], normalized=normalized)
    expected = expected - sft_weight * (policy[0] / lengths[0]).mean()
    expected.backward()
    assert found == pytest.approx(float(expected.detach()), abs=1e-5, rel=1e-5)
    named = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    assert found_gradients.keys() == named.keys()
    assert far(found_gradients, named) < 1e-5


def test_kto_is_that_of_plain_pytorch_with_the_drift_of_mismatched_answers(make_learner: LearnerMaker) -> None:
    learner, order = start(make_learner(invented_pairs(6)), PreferenceLoss("kto", beta=BETA["kto"]))
    before = plain_model(learner)
    moved(learner)
    found, found_gradients = gradients(learner, order, step=2)

    model = plain_model(learner)
    indices = order.members(2).indices
    batch = [learner.store[number] for number in indices]
    others = []
    for place, example in enumerate(batch):
        prompt = list(example.token_ids)[: first_trained(example)]
        for step in range(1, len(batch)):
            other = batch[(place + step) % len(batch)]
            if list(other.token_ids)[: first_trained(other)] != prompt:
                break
        ending = list(other.token_ids)[first_trained(other) :]
        others.append(Example(prompt + ending, [0.0] * len(prompt) + [1.0] * len(ending)))
    with torch.no_grad():
        reference = padded_log_probabilities(before, batch)
        drift = (padded_log_probabilities(model, others) - padded_log_probabilities(before, others)).mean()
    desirable = torch.tensor([example.side == "chosen" for example in batch])
    expected = kto_loss(padded_log_probabilities(model, batch), reference, desirable, drift, beta=BETA["kto"])
    expected.backward()
    assert found == pytest.approx(float(expected.detach()), abs=1e-5)
    named = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    assert far(found_gradients, named) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("objective", [*PAIRED, "kto"])
def test_a_pair_may_be_parted_and_any_cut_gives_the_same(make_learner: LearnerMaker, objective: str) -> None:
    loss = PreferenceLoss(objective, beta=BETA[objective])  # type: ignore[arg-type]
    results = []
    for cut, one_by_one in ((BIG, False), (40, False), (10, False), (BIG, True)):
        learner, order = start(make_learner(invented_pairs(6), one_by_one=one_by_one), loss)
        moved(learner)
        results.append(gradients(learner, order, cut=cut))
    for found, found_gradients in results[1:]:
        assert found == pytest.approx(results[0][0], abs=1e-6)
        assert far(found_gradients, results[0][1]) < 2e-6


@pytest.mark.parametrize(("objective", "expected"), [("dpo", math.log(2)), ("ipo", 1 / (4 * 0.2**2)), ("kto", 0.5)])
def test_the_first_loss_is_its_closed_form_to_the_last_bits(
    make_learner: LearnerMaker, objective: str, expected: float
) -> None:
    loss = PreferenceLoss(objective, beta=BETA[objective])  # type: ignore[arg-type]
    learner, order = start(make_learner(invented_pairs(6)), loss)
    proof = prove_start(learner, order, cut=Cut(BIG), exact=True)
    assert proof.found.loss == pytest.approx(expected, abs=1e-6)
    assert abs(proof.found.margin) < 1e-6
    result = take_step(learner, order.members(1), cut=Cut(BIG), seed=3, learning_rate=1e-2)
    assert result.loss == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("objective", "comparison"), [("dpo", math.log(2)), ("kto", 0.5)])
def test_imitation_of_the_chosen_answers_is_told_apart_in_the_first_loss(
    make_learner: LearnerMaker, objective: str, comparison: float
) -> None:
    loss = PreferenceLoss(objective, beta=BETA[objective], sft_weight=0.5)  # type: ignore[arg-type]
    learner, order = start(make_learner(invented_pairs(6)), loss)
    proof = prove_start(learner, order, cut=Cut(BIG), exact=True)
    answers = [learner.store[number] for number in order.members(1).indices[: proof.num_answers]]
    with torch.no_grad():
        found = padded_log_probabilities(plain_model(learner), answers)
    per_token = [
        float(one) / sum(example.weights)
        for one, example in zip(found, answers, strict=True)
        if example.side == "chosen"
    ]
    num_compared = proof.num_answers // (2 if objective == "dpo" else 1)
    imitation = -0.5 * sum(per_token) / num_compared
    assert imitation > 0.5
    assert proof.imitation == pytest.approx(imitation, abs=1e-4)
    assert proof.found.loss == pytest.approx(comparison + imitation, abs=1e-4)
    assert f"+ {proof.imitation:.6f} of imitation, margin" in proof.words


def test_training_raises_the_margin_of_its_pairs(make_learner: LearnerMaker) -> None:
    learner, order = start(make_learner(invented_pairs(4)), PreferenceLoss("dpo", beta=0.1), max_steps=12)
    found = []
    for step in range(1, 13):
        result = take_step(learner, order.members(step), cut=Cut(BIG), seed=3, learning_rate=3e-3)
        assert result.compared is not None
        found.append(result.compared)
    assert found[0].margin == pytest.approx(0, abs=1e-5)
    assert found[-1].margin > 0.2
    assert found[-1].accuracy == 1.0
    assert found[-1].loss < found[0].loss
    assert found[-1].chosen_reward - found[-1].rejected_reward == pytest.approx(found[-1].margin)


def test_memory_that_runs_out_changes_nothing(make_learner: LearnerMaker) -> None:
    loss = PreferenceLoss("dpo", beta=0.1)
    results = []
    for limit in (BIG, 30):
        learner, order = start(make_learner(invented_pairs(6)), loss)
        FailsOnce(learner, limit)
        said: list[str] = []
        result = take_step(learner, order.members(1), cut=Cut(BIG), seed=3, learning_rate=1e-2, say=said.append)
        results.append((result.loss, weights_of(learner), said))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-6)
    assert "out of memory" in results[1][2][0]
    for name, weight in results[0][1].items():
        assert torch.allclose(weight, results[1][1][name], atol=1e-4)


def test_reference_log_probabilities_are_without_dropout(make_learner: LearnerMaker) -> None:
    # Elsewhere dropout was on while the reference answered (TRL PR 5542, ms-swift PR 10196).
    learner, order = start(make_learner(invented_pairs(6), dropout=0.5), PreferenceLoss("dpo", beta=0.1))
    assert learner.preference is not None
    assert learner.preference.reference is not None
    with torch.no_grad():
        expected = padded_log_probabilities(plain_model(learner), list(learner.store))
    assert np.allclose(learner.preference.reference.own, expected.numpy(), atol=1e-4)
    assert learner.loss.training
    assert prove_start(learner, order, cut=Cut(BIG), exact=True).found.loss == pytest.approx(math.log(2), abs=1e-6)


def test_noise_of_the_first_pass_is_that_of_the_second(make_learner: LearnerMaker) -> None:
    """With NEFTune a parted pair is scored and trained under the same noise."""
    loss = PreferenceLoss("dpo", beta=0.1)
    found = []
    for cut in (BIG, 10):
        learner, order = start(make_learner(invented_pairs(6), neftune_alpha=5.0), loss)
        found.append(gradients(learner, order, cut=cut))
    assert found[0][0] != pytest.approx(math.log(2), abs=1e-4)  # the noise is on
    assert found[1][0] == pytest.approx(found[0][0], abs=1e-6)
    assert far(found[1][1], found[0][1]) < 2e-6


def test_padding_free_does_not_change_the_result(make_learner: LearnerMaker) -> None:
    # Elsewhere laying examples end to end changed the loss (TRL PR 2520).
    loss = PreferenceLoss("dpo", beta=0.1)
    alone, order = start(make_learner(invented_pairs(6), one_by_one=True), loss)
    flat, _ = start(make_learner(invented_pairs(6)), loss)
    for learner in (alone, flat):
        moved(learner)
    assert gradients(alone, order)[0] == pytest.approx(gradients(flat, order)[0], abs=1e-6)


class TestMismatched:
    """KTO's mismatched answers; TRL PR 1380, 1402, 2153 and LLaMA-Factory PR 7509 are what went wrong elsewhere."""

    def test_no_answer_is_its_own_mismatch_in_a_step_of_any_size(self) -> None:
        for count in range(2, 8):
            store = ExampleStore.from_examples(invented_pairs(count)[::2])
            for place, other in enumerate(mismatched(store, range(count))):
                assert list(other.token_ids) != list(store[place].token_ids)

    def test_two_answers_to_one_prompt_are_not_mismatched_with_each_other(self) -> None:
        store = ExampleStore.from_examples(invented_pairs(3))
        for place, other in enumerate(mismatched(store, range(6))):
            ending = list(other.token_ids)[first_trained(other) :]
            mine = place // 2
            assert ending not in [
                list(store[number].token_ids)[first_trained(store[number]) :] for number in (2 * mine, 2 * mine + 1)
            ]

    def test_a_step_of_one_answer_has_no_mismatch_and_a_finite_loss(self, make_learner: LearnerMaker) -> None:
        loss = PreferenceLoss("kto", beta=0.1)
        learner, order = start(make_learner(invented_pairs(6)[:5]), loss, batch_size=4, max_steps=2)
        assert len(order.members(2).indices) == 1
        result = take_step(learner, order.members(2), cut=Cut(BIG), seed=3, learning_rate=1e-3)
        assert math.isfinite(result.loss)
        assert result.moved

    def test_the_drift_is_over_the_step_whatever_the_micro_batches(self, make_learner: LearnerMaker) -> None:
        found = []
        for cut in (BIG, 12):
            learner, order = start(make_learner(invented_pairs(6)), PreferenceLoss("kto", beta=0.3))
            moved(learner)
            found.append(gradients(learner, order, cut=cut)[0])
        assert found[0] == pytest.approx(found[1], abs=1e-6)

    def test_long_mismatches_are_cut_at_their_end(self) -> None:
        store = ExampleStore.from_examples(invented_pairs(4)[::2])
        for place, other in enumerate(mismatched(store, range(4), longest=10)):
            assert len(other.token_ids) <= max(10, first_trained(store[place]) + 1)
            assert sum(other.weights) >= 1


def test_chosen_and_rejected_figures_are_not_exchanged(make_learner: LearnerMaker) -> None:
    # Elsewhere the two were swapped in the metrics (LLaMA-Factory #6050).
    learner, order = start(make_learner(invented_pairs(4)), PreferenceLoss("dpo", beta=0.1))
    moved(learner)
    result = take_step(learner, order.members(1), cut=Cut(BIG), seed=3, learning_rate=1e-9)
    assert result.compared is not None
    batch = [learner.store[number] for number in order.members(1).indices]
    chosen = [example for example in batch if example.side == "chosen"]
    assert result.compared.chosen_tokens == pytest.approx(sum(sum(one.weights) for one in chosen) / len(chosen))
    with torch.no_grad():
        policy = padded_log_probabilities(plain_model(learner), chosen)
    own = learner.preference.reference.own  # type: ignore[union-attr]
    numbers = [n for n in order.members(1).indices if learner.store[n].side == "chosen"]
    assert result.compared.chosen_reward == pytest.approx(0.1 * float((policy.numpy() - own[numbers]).mean()), abs=1e-4)


def test_heldout_pairs_are_compared_with_their_own_reference(make_learner: LearnerMaker) -> None:
    learner, _ = start(make_learner(invented_pairs(4)), PreferenceLoss("dpo", beta=0.1))
    heldout = ExampleStore.from_examples(invented_pairs(3, seed=9))
    assert learner.preference is not None
    found = [heldout_comparison(learner, learner.preference, heldout, cut=Cut(cut)) for cut in (BIG, 12)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].loss == pytest.approx(math.log(2), abs=1e-6) == found[1].loss
    assert found[0].accuracy == pytest.approx(0.5, abs=0.51)
    assert found[0].drift == pytest.approx(0, abs=1e-6)
    assert heldout_comparison(learner, learner.preference, ExampleStore.from_examples([]), cut=Cut(BIG)) is None


def test_the_orpo_likelihood_covers_the_answer_alone(make_learner: LearnerMaker) -> None:
    # Elsewhere the likelihood term ran over prompt and answer, and sums stood for means.
    loss = PreferenceLoss("orpo", beta=1e-9)
    learner, order = start(make_learner(invented_pairs(4)), loss)
    found, _ = gradients(learner, order)
    chosen = [learner.store[n] for n in order.members(1).indices if learner.store[n].side == "chosen"]
    with torch.no_grad():
        expected = -(padded_log_probabilities(plain_model(learner), chosen) / lengths_of(chosen)).mean()
    assert found == pytest.approx(float(expected.detach()), abs=1e-5)
