"""The loss on held-out examples: the same number whatever the cut or the number of processes.

Weighted sum over all trained positions of the held-out examples, divided once by their weight; no batch enters.
"""

from __future__ import annotations

import torch

from instil.data.prepared import ExampleStore
from instil.training.micro_batch import cut_step
from instil.training.step import Cut, Learner, forward, lay_out


def heldout_loss(learner: Learner, store: ExampleStore, *, cut: Cut) -> float | None:
    """Give the weighted mean loss of held-out examples in evaluation mode.

    Args:
        learner: The model, its processes.
        store: The held-out examples.
        cut: Tokens of one forward pass; the result does not depend on it.

    Returns:
        The loss, or None where no held-out token is trained.
    """
    weight = float(store.trained_weight.sum(dtype="float64")) if len(store) else 0.0
    if not weight > 0:
        return None
    shares = cut_step(
        range(len(store)),
        store.num_tokens.tolist(),
        micro_batch_tokens=cut.micro_batch_tokens,
        num_ranks=learner.ranks.size,
        one_by_one=learner.one_by_one,
    )
    total = torch.zeros((), dtype=torch.float64, device=learner.ranks.device)
    was_training = learner.loss.training
    learner.loss.eval()
    try:
        with torch.no_grad():
            for numbers in shares[learner.ranks.rank]:
                batch = lay_out(learner, numbers, store)
                total += forward(learner.loss, batch, seed=0, epoch=0)
    finally:
        learner.loss.train(was_training)
    return learner.ranks.sum_numbers(float(total))[0] / weight
