"""Losses and gradients of flat micro-batches of tiny models."""

from __future__ import annotations

import torch
from tests.model.tiny import VOCABULARY

from instil.model.attention.layout import positions_of
from instil.model.loss.token_loss import TokenLoss, targets_of

MIXTURES = ("qwen3_moe", "mixtral", "gpt_oss")
LENGTHS = [7, 1, 12, 3]
ONE_ROW = 4 * VOCABULARY
"""Bytes of the fp32 logits of one row."""


def loss_of(module: TokenLoss, examples: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Return the loss sum of these examples, laid end to end."""
    lengths = [len(ids) for ids, _ in examples]
    ids = torch.cat([ids for ids, _ in examples])
    targets, weights = targets_of(ids, torch.cat([weights for _, weights in examples]), lengths)
    return module(ids, positions_of(lengths), lengths, targets, weights)


def gradients_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the gradients of a model by name, and clear them."""
    found = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    return found


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    """Compare gradients by name, in units of the largest of each tensor.

    Why the floor: a gradient that is small because large terms cancel has the rounding of these terms, which differs
    between processors.
    """
    assert first.keys() == second.keys()
    assert first
    for name, value in first.items():
        scale = max(second[name].abs().max().item(), 5e-3)
        assert (value - second[name]).abs().max().item() <= 1e-5 * scale, name
