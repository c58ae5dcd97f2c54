"""Preference objectives in plain PyTorch: two padded forward passes and transformers' own attention and logits.

Nothing of instil's loss, layout or step is used.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from instil.conversation import Example


def padded_log_probabilities(model: torch.nn.Module, examples: Sequence[Example]) -> torch.Tensor:
    """Return the summed log-probability of the trained tokens of each example; gradients flow."""
    longest = max(len(example.token_ids) for example in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.int64)
    mask, weights = torch.zeros_like(ids), torch.zeros(len(examples), longest)
    for row, example in enumerate(examples):
        length = len(example.token_ids)
        ids[row, :length] = torch.tensor(list(example.token_ids))
        weights[row, :length] = torch.tensor(list(example.weights), dtype=torch.float32)
        mask[row, :length] = 1
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
    found = F.log_softmax(logits[:, :-1], dim=-1).gather(2, ids[:, 1:, None]).squeeze(2)
    return (found * weights[:, 1:]).sum(1)


def lengths_of(examples: Sequence[Example]) -> torch.Tensor:
    return torch.tensor([float(sum(example.weights)) for example in examples])


def pair_loss(
    name: str,
    policy: tuple[torch.Tensor, torch.Tensor],
    reference: tuple[torch.Tensor, torch.Tensor],
    lengths: tuple[torch.Tensor, torch.Tensor],
    *,
    beta: float,
    margin: float = 1.0,
    normalized: bool = False,
) -> torch.Tensor:
    """Return the mean loss of pairs, written from the papers."""
    (chosen, rejected), (chosen_length, rejected_length) = policy, lengths
    ratio, other = chosen - reference[0], rejected - reference[1]
    if normalized:
        ratio, other = ratio / chosen_length, other / rejected_length
    mean, worse = chosen / chosen_length, rejected / rejected_length
    if name == "dpo":
        return torch.log1p(torch.exp(-beta * (ratio - other))).mean()
    if name == "ipo":
        return ((ratio - other - 0.5 / beta) ** 2).mean()
    if name == "simpo":
        return torch.log1p(torch.exp(margin - beta * (mean - worse))).mean()
    odds = torch.exp(mean) / (1 - torch.exp(mean)) / (torch.exp(worse) / (1 - torch.exp(worse)))
    return (-mean + beta * torch.log1p(1 / odds)).mean()


def kto_loss(
    policy: torch.Tensor, reference: torch.Tensor, desirable: torch.Tensor, drift: torch.Tensor, *, beta: float
) -> torch.Tensor:
    """Return the mean loss of judged answers."""
    gain = beta * (policy - reference - drift.detach().clamp_min(0))
    return torch.where(desirable, 1 - torch.sigmoid(gain), 1 - torch.sigmoid(-gain)).mean()
