"""Attention written head by head over the whole matrix of scores, to compare kernels with."""

from __future__ import annotations

import torch

from instil.model.attention.by_example import Features


def naive(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, features: Features) -> torch.Tensor:
    """Attend head by head, each token to itself and to what its window sees before it: [L, H, D]."""
    groups = query.shape[1] // key.shape[1]
    token = torch.arange(query.shape[2])
    distance = token[:, None] - token[None, :]
    seen = (distance >= 0) if features.window is None else (distance >= 0) & (distance < features.window)
    heads = []
    for head in range(query.shape[1]):
        scores = query[0, head] @ key[0, head // groups].T * features.scale
        if features.softcap is not None:
            scores = features.softcap * torch.tanh(scores / features.softcap)
        scores = scores.masked_fill(~seen, float("-inf"))
        if features.sinks is not None:
            scores = torch.cat([scores, features.sinks[head].expand(len(token), 1)], dim=1)
        probabilities = torch.softmax(scores, 1)[:, : len(token)]
        heads.append(probabilities @ value[0, head // groups])
    return torch.stack(heads, dim=1)
