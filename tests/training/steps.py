"""A few steps of a tiny learner, without a recipe or a run folder."""

from __future__ import annotations

import torch

from instil.training.step.learner import Cut, Learner
from instil.training.step.order import Order, plan_order
from instil.training.step.take_step import take_step

BIG = 10_000


def train(learner: Learner, *, cut: int = BIG, steps: int = 4, batch_size: int = 4, **settings: object) -> list[float]:
    """Take some steps and return their losses."""
    order: Order = plan_order(len(learner.store), batch_size=batch_size, max_steps=steps, seed=3)
    current, losses = Cut(cut), []
    for step in range(1, steps + 1):
        result = take_step(learner, order.members(step), cut=current, seed=3, learning_rate=1e-2, clip=1.0, **settings)
        current = result.cut
        losses.append(result.loss)
    return losses


def weights_of(learner: Learner) -> dict[str, torch.Tensor]:
    """Copy the trained weights."""
    return {name: weight.detach().clone() for name, weight in learner.weights.by_name.items()}


def close(one: Learner, other: Learner, *, tolerance: float) -> bool:
    """Return True if all weights of two learners are equal within the tolerance."""
    pairs = zip(weights_of(one).values(), weights_of(other).values(), strict=True)
    return all(torch.allclose(a, b, atol=tolerance, rtol=0) for a, b in pairs)


class FailsOnce:
    """Pretends that a forward pass over more than `limit` tokens does not fit."""

    def __init__(self, learner: Learner, limit: int) -> None:
        self.limit = limit
        learner.loss.register_forward_pre_hook(self)

    def __call__(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > self.limit:
            raise torch.OutOfMemoryError("out of memory")
