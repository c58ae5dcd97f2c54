"""A step of preference tuning: the gradients of an objective of whole answers, as weighted cross-entropy.

The gradient of such an objective is that of a cross-entropy in which every token of an answer has the same factor: the
derivative of the objective with respect to the answer's log-probability. So a step uses the passes, the loss and the
chunked head of supervised fine-tuning.

Why: while a pair fits into a micro-batch, one pass through the model gives log-probabilities and gradients. A pair that
does not fit is parted: a pass without gradient comes first, and both answers may then lie in different micro-batches
and on different processes. Both ways give the same result.

Shapes: A answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from instil.model.device_memory import is_out_of_memory
from instil.model.loss.preference import Answers, PreferenceLoss
from instil.model.to_device import send, to_device
from instil.preparation.store import ExampleStore
from instil.screen import work
from instil.training.step.clock import Clock
from instil.training.step.learner import Cut, Learner, Preference
from instil.training.step.micro_batch import cut_step
from instil.training.step.mismatched import mismatched
from instil.training.step.order import Members, step_seed
from instil.training.step.passes import forward, lay_out, my_share, smaller_cut


@dataclass(frozen=True, slots=True)
class Compared:
    """What a step or an evaluation found about its answers; means over pairs, or for KTO over answers.

    Attributes:
        loss: The objective.
        accuracy: Share of pairs whose chosen answer has the higher reward, ties counted half; for KTO, of answers whose
            reward is on the right side of the drift.
        margin: Chosen minus rejected reward. Rewards are those of the objective.
        chosen_reward: Reward of the chosen or good answers.
        rejected_reward: Reward of the rejected or bad ones.
        chosen_tokens: Mean length of the chosen answers.
        rejected_tokens: Mean length of the rejected ones.
        drift: Mean log-probability ratio to the reference per token; None without a reference.
    """

    loss: float
    accuracy: float
    margin: float
    chosen_reward: float
    rejected_reward: float
    chosen_tokens: float
    rejected_tokens: float
    drift: float | None

    def to_json(self) -> dict[str, float]:
        """Return the figures for metrics.jsonl, without the loss."""
        names = ("accuracy", "margin", "chosen_reward", "rejected_reward", "chosen_tokens", "rejected_tokens", "drift")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


NUM_SUMS = 10


def compare(
    loss: PreferenceLoss, answers: Answers, sides: torch.Tensor, *, drift: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the factor of each answer's token weights, and the sums that `summarise` divides.

    Args:
        loss: The objective.
        answers: The answers; of pairs, chosen and rejected in turns.
        sides: 1 for a chosen or good answer, -1 for another [A].
        drift: KTO's estimate.

    Returns:
        Factors [A], and sums [NUM_SUMS], both fp64.
    """
    chosen = sides > 0
    with torch.enable_grad():
        policy = answers.policy.detach().requires_grad_()
        answers = replace(answers, policy=policy)
        if loss.of_pairs:
            losses = loss.of_answers(*answers.pairs())
        else:
            losses = loss.of_judged(answers, chosen, torch.as_tensor(drift, dtype=policy.dtype, device=policy.device))
        (slopes,) = torch.autograd.grad(losses.sum(), policy)
    with torch.no_grad():
        rewards = loss.rewards(answers)
        lead = rewards[::2] - rewards[1::2] if loss.of_pairs else sides * (rewards - loss.beta * drift)
        correct = (lead > 0).double() + 0.5 * (lead == 0).double()
        sums = [
            *(torch.full_like(losses, 1.0).sum(), losses.sum(), correct.sum()),
            *_of_side(chosen, rewards, answers.length),
            *_of_side(~chosen, rewards, answers.length),
            answers.ratio.sum(),
        ]
    return -slopes, torch.stack([value.detach().double() for value in sums])


def _of_side(which: torch.Tensor, rewards: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, ...]:
    # Not `rewards[which]`: a GPU's host would wait for the mask, to know how many answers it selects.
    return which.sum(), torch.where(which, rewards, 0.0).sum(), torch.where(which, lengths, 0.0).sum()


def summarise(sums: Sequence[float], *, has_reference: bool) -> Compared:
    """Return the means of the sums of `compare`, added up over a whole step."""
    (
        units,
        loss,
        correct,
        num_chosen,
        chosen_reward,
        chosen_length,
        num_rejected,
        rejected_reward,
        rejected_length,
        ratio,
    ) = sums
    chosen, rejected = chosen_reward / max(1, num_chosen), rejected_reward / max(1, num_rejected)
    return Compared(
        loss=loss / units,
        accuracy=correct / units,
        margin=chosen - rejected if num_chosen and num_rejected else 0.0,
        chosen_reward=chosen,
        rejected_reward=rejected,
        chosen_tokens=chosen_length / max(1, num_chosen),
        rejected_tokens=rejected_length / max(1, num_rejected),
        drift=ratio / (chosen_length + rejected_length) if has_reference else None,
    )


def add_up_preferences(
    learner: Learner, preference: Preference, members: Members, cut: Cut, *, seed: int, clock: Clock
) -> tuple[Compared, int, int]:
    """Sum the gradients of a step over its answers.

    Args:
        learner: What trains; its gradients are cleared.
        preference: How it compares answers.
        members: The step's examples; of pairs, chosen and rejected in turns.
        cut: How to compute it.
        seed: The run's seed.
        clock: Measures the phases.

    Returns:
        What was found, the tokens and the trained tokens, over all processes.
    """
    loss, ranks, store = preference.loss, learner.ranks, learner.store
    clock.enter("forward")
    drift = 0.0
    if not loss.of_pairs and preference.reference is not None:
        references = preference.reference.mismatched[members.step - 1]
        drift = drift_of(learner, store, members.indices, references, cut=cut, longest=preference.longest)
    own = None if preference.reference is None else preference.reference.own
    shares = share_of_answers(learner, store, members.indices, cut)
    factors: dict[int, torch.Tensor] = {}
    sums = torch.zeros(NUM_SUMS, dtype=torch.float64, device=ranks.device)
    if shares.parted:
        torch.manual_seed(step_seed(seed, step=members.step, rank=ranks.rank))
        policy = score(learner, store, members.indices, shares.mine, seed=seed, epoch=members.epoch)
        answers, sides = answers_of(store, members.indices, policy, own)
        found, sums = compare(loss, answers, sides, drift=drift)
        factors = dict(zip(members.indices, found, strict=True))
    torch.manual_seed(step_seed(seed, step=members.step, rank=ranks.rank))
    factor = cut.loss_scale / (len(members.indices) // (2 if loss.of_pairs else 1))
    learner.loss.gradient_scale = factor
    tokens = trained = 0
    for numbers in shares.mine:
        clock.enter("data")
        batch = lay_out(learner, store, numbers)

        def reweigh(log_probabilities: torch.Tensor, numbers: Sequence[int] = numbers) -> torch.Tensor:
            nonlocal sums
            if not numbers:
                return torch.zeros_like(log_probabilities)
            if factors:
                return torch.stack([factors[number] for number in numbers])
            answers, sides = answers_of(store, numbers, log_probabilities, own)
            found, more = compare(loss, answers, sides, drift=drift)
            sums = sums + more * ranks.counts
            return found

        clock.enter("forward")
        loss_sum = forward(learner.loss, batch, seed=seed, epoch=members.epoch, reweigh=reweigh)
        clock.enter("backward")
        torch.autograd.backward(loss_sum * factor)
        tokens, trained = tokens + batch.num_tokens * ranks.counts, trained + batch.num_trained
    local = sums.tolist()
    totals = local if shares.parted else ranks.sum_numbers(*local)
    all_tokens, all_trained = ranks.sum_numbers(tokens, trained)
    return summarise(totals, has_reference=own is not None), int(all_tokens), int(all_trained)


@dataclass(frozen=True, slots=True)
class ShareOfAnswers:
    """The micro-batches of one process.

    Attributes:
        mine: Numbers of the examples of each micro-batch.
        parted: Whether the answers of a pair may lie in different micro-batches, on any process.
    """

    mine: list[tuple[int, ...]]
    parted: bool


def share_of_answers(learner: Learner, store: ExampleStore, indices: Sequence[int], cut: Cut) -> ShareOfAnswers:
    """Cut a step into micro-batches: pairs stay whole if each of them fits.

    Args:
        learner: What trains.
        store: The examples.
        indices: The step's examples; of pairs, chosen and rejected in turns.
        cut: The size of micro-batches.
    """
    preference = learner.preference
    if preference is None or not preference.loss.of_pairs:
        return ShareOfAnswers(my_share(learner, store, indices, cut), parted=False)
    lengths = store.num_tokens[list(indices)].reshape(-1, 2).sum(axis=1).tolist()
    tokens = cut.micro_batch_tokens * learner.ranks.num_sharing
    if learner.one_by_one or max(lengths) > tokens:
        return ShareOfAnswers(my_share(learner, store, indices, cut), parted=True)
    pairs = [indices[place : place + 2] for place in range(0, len(indices), 2)]
    shares = cut_step(range(len(pairs)), lengths, micro_batch_tokens=tokens, num_ranks=learner.ranks.num_shares)
    mine = [tuple(number for place in places for number in pairs[place]) for places in shares[learner.ranks.share]]
    return ShareOfAnswers(mine, parted=False)


def answers_of(
    store: ExampleStore, indices: Sequence[int], policy: torch.Tensor, reference: npt.NDArray[np.float64] | None
) -> tuple[Answers, torch.Tensor]:
    """Return examples as answers with their sides.

    Args:
        store: The examples.
        indices: Their numbers [A].
        policy: Their log-probabilities, fp64 [A].
        reference: Of every example of the store, or None.
    """
    chosen = list(indices)
    device = policy.device
    length = to_device(torch.from_numpy(store.trained_weight[chosen].astype(np.float64)), device)
    sides = to_device(torch.from_numpy(store.sides[chosen].astype(np.float64)), device)
    known = torch.zeros_like(policy) if reference is None else to_device(torch.from_numpy(reference[chosen]), device)
    return Answers(policy, known, length), sides


def score(
    learner: Learner,
    store: ExampleStore,
    indices: Sequence[int],
    mine: Sequence[tuple[int, ...]],
    *,
    seed: int = 0,
    epoch: int = 0,
) -> torch.Tensor:
    """Return the log-probability of examples, summed over all processes, without a gradient.

    Args:
        learner: The model, in the mode in which it is to be asked.
        store: The examples.
        indices: Their numbers [A].
        mine: The micro-batches of this process.
        seed: The run's seed, for noise in training mode.
        epoch: The pass over the data, for the same.

    Returns:
        fp64 [A], in the order of `indices`, on every process.
    """
    places = {number: place for place, number in enumerate(indices)}
    found = torch.zeros(len(indices), dtype=torch.float64, device=learner.ranks.device)
    with torch.no_grad():
        for numbers in mine:

            def keep(log_probabilities: torch.Tensor, numbers: Sequence[int] = numbers) -> torch.Tensor:
                if numbers and learner.ranks.counts:
                    found[send([places[number] for number in numbers], found.device)] = log_probabilities
                return torch.zeros_like(log_probabilities)

            forward(learner.loss, lay_out(learner, store, numbers), seed=seed, epoch=epoch, reweigh=keep)
    if learner.ranks.size == 1:
        return found
    return torch.tensor(learner.ranks.sum_numbers(*found.tolist()), dtype=torch.float64, device=found.device)


def score_quietly(
    learner: Learner, store: ExampleStore, indices: Sequence[int], *, cut: Cut, place: str, title: str = ""
) -> torch.Tensor:
    """Return the log-probability of examples in evaluation mode: without dropout and noise.

    If memory runs out, micro-batches are halved, as in a step.

    Args:
        learner: The model and its processes.
        store: The examples.
        indices: Their numbers [A].
        cut: How the passes are cut.
        place: What is computed, for errors.
        title: What is computed, for a bar; empty for none.

    Raises:
        OutOfMemoryError: If a single example does not fit, or, with several processes, any micro-batch.
    """
    was_training = learner.loss.training
    learner.loss.eval()
    try:
        while True:
            mine = my_share(learner, store, indices, cut)
            try:
                if not title:
                    return score(learner, store, indices, mine)
                with work(title, total=len(indices), unit="examples") as bar:
                    found = score(learner, store, indices, mine)
                    bar.advance(len(indices))
                return found
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            cut = smaller_cut(
                learner, store, mine, cut, place=place, remedy="Start another run with data.max_tokens lower."
            )
    finally:
        learner.loss.train(was_training)


def drift_of(
    learner: Learner,
    store: ExampleStore,
    indices: Sequence[int],
    references: npt.NDArray[np.float64] | None,
    *,
    cut: Cut,
    longest: int | None,
) -> float:
    """Return KTO's estimate of how far the model is from its reference, from mismatched answers; at least 0.

    Args:
        learner: The model and its processes.
        store: The examples.
        indices: The step's examples.
        references: The reference's log-probabilities of the mismatched answers.
        cut: How the passes are cut.
        longest: As for `mismatched`.
    """
    others = mismatched(store, indices, longest=longest)
    if not others or references is None:
        return 0.0
    policy = score_quietly(
        learner, ExampleStore.from_examples(others), range(len(others)), cut=cut, place="mismatched answers"
    )
    return max(0.0, float(policy.mean()) - float(np.mean(references)))


def heldout_comparison(learner: Learner, preference: Preference, store: ExampleStore, *, cut: Cut) -> Compared | None:
    """Compare the held-out answers, in evaluation mode.

    Args:
        learner: The model and its processes.
        preference: How it compares answers.
        store: The held-out examples.
        cut: How the passes are cut. The result does not depend on it.

    Returns:
        What was found, or None if nothing is held out.

    Raises:
        OutOfMemoryError: If a single example does not fit, or, with several processes, any micro-batch.
    """
    if not len(store):
        return None
    indices, reference, drift = range(len(store)), preference.reference, 0.0
    policy = score_quietly(learner, store, indices, cut=cut, place="held-out loss", title="held-out loss")
    if not preference.loss.of_pairs and reference is not None:
        drift = drift_of(learner, store, indices, reference.heldout_mismatched, cut=cut, longest=preference.longest)
    answers, sides = answers_of(store, indices, policy, None if reference is None else reference.heldout)
    _, sums = compare(preference.loss, answers, sides, drift=drift)
    return summarise(sums.tolist(), has_reference=reference is not None)
