"""The loss on held-out examples. It does not depend on micro-batches or the number of processes.

The weighted sum over all trained positions of the held-out examples is divided once by their weight. If memory runs
out, micro-batches are halved, as in a step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from instil.model.device_memory import is_out_of_memory
from instil.preparation.store import ExampleStore
from instil.screen import work
from instil.training.step.learner import Cut, Learner
from instil.training.step.passes import forward, lay_out, my_share, smaller_cut


def heldout_loss(learner: Learner, store: ExampleStore, *, cut: Cut) -> float | None:
    """Return the weighted mean loss of held-out examples, in evaluation mode.

    Args:
        learner: The model and its processes.
        store: The held-out examples.
        cut: How the forward passes are cut. The result does not depend on it.

    Returns:
        The loss, or None if no held-out token has a weight.

    Raises:
        OutOfMemoryError: If a single example does not fit, or, with several processes, any micro-batch.
    """
    weight = float(store.trained_weight.sum(dtype="float64")) if len(store) else 0.0
    if not weight > 0:
        return None
    while True:
        mine = my_share(learner, store, range(len(store)), cut)
        total = _try_to_add_up(learner, store, mine)
        if total is not None:
            return learner.ranks.sum_numbers(total)[0] / weight
        cut = smaller_cut(
            learner, store, mine, cut, place="held-out loss", remedy="Start another run with data.max_tokens lower."
        )


def _try_to_add_up(learner: Learner, store: ExampleStore, mine: Sequence[tuple[int, ...]]) -> float | None:
    """Return this process's loss sum, or None if memory ran out."""
    total = torch.zeros((), dtype=torch.float64, device=learner.ranks.device)
    was_training = learner.loss.training
    learner.loss.eval()
    try:
        # Processes share the examples; each counts its own, and the first one shows them.
        with torch.no_grad(), work("held-out loss", total=sum(map(len, mine)), unit="examples") as bar:
            for indices in mine:
                batch = lay_out(learner, store, indices)
                total += forward(learner.loss, batch, seed=0, epoch=0)
                bar.advance(len(indices))
        return float(total)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    finally:
        learner.loss.train(was_training)
