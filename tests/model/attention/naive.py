"""Attention written token by token, to compare kernels with."""

from __future__ import annotations

import torch

from instil.model.attention.by_example import Features


def naive(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, features: Features) -> torch.Tensor:
    """Attend token by token and head by head: [L, H, D]."""
    groups = query.shape[1] // key.shape[1]
    length = query.shape[2]
    output = torch.zeros(length, query.shape[1], value.shape[-1])
    for head in range(query.shape[1]):
        for token in range(length):
            first = 0 if features.window is None else max(0, token - features.window + 1)
            keys = key[0, head // groups, first : token + 1]
            scores = keys @ query[0, head, token] * features.scale
            if features.softcap is not None:
                scores = features.softcap * torch.tanh(scores / features.softcap)
            if features.sinks is not None:
                scores = torch.cat([scores, features.sinks[head : head + 1]])
            probabilities = torch.softmax(scores, 0)[: keys.shape[0]]
            output[token, head] = probabilities @ value[0, head // groups, first : token + 1]
    return output
