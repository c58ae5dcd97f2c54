"""Decide what each trained tensor is: matrix, head, embedding or vector.

Two rules depend on it. Embeddings and vectors are not decayed, and Muon moves only the matrices inside the network.

Why: a tensor is known by what it does, not by its shape alone. Stacked experts have biases of two dimensions (gpt-oss),
and Mamba's decay rates are a table. Shape is the last rule, for what has no name of its own.
"""

from __future__ import annotations

import re
from typing import Literal

import torch
from torch import nn

TensorKind = Literal["matrix", "head", "embedding", "vector"]

DECAYED: tuple[TensorKind, ...] = ("matrix", "head")
"""The kinds that weight decay applies to."""
_VECTOR = re.compile(r"(^|_)bias(es)?$|^A_log$|^D$|^sinks$|^time_(mix|decay|first)|^lora_magnitude_vector$")
"""Last names of biases, state-space rates and skips, attention sinks, RWKV's mixing shares, DoRA's magnitudes."""
_POSITIONS = re.compile(r"pos(ition(al)?)?_emb")
"""Part of the last names of position tables that are no embedding module."""


def tensor_kinds(model: nn.Module) -> dict[str, TensorKind]:
    """Return the kind of each trained parameter.

    Embeddings are the parameters of embedding modules and position tables; a tied head is one of them. Vectors are
    biases, the weights of norms, and whatever else adds or scales one number at a time. The head is what the model
    calls its output embeddings. Matrices are the rest.

    Example:
        >>> tensor_kinds(nn.Sequential(nn.Embedding(4, 2), nn.Linear(2, 3), nn.LayerNorm((3, 2))))
        {'0.weight': 'embedding', '1.weight': 'matrix', '1.bias': 'vector', '2.weight': 'vector', '2.bias': 'vector'}
    """
    embeddings = {id(part) for m in model.modules() if isinstance(m, nn.Embedding) for part in m.parameters()}
    embeddings |= {id(part) for name, part in model.named_parameters() if "trainable_tokens" in name}
    head = _head_parameters(model)
    modules = dict(model.named_modules())
    kinds: dict[str, TensorKind] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        owner, _, last = name.rpartition(".")
        if id(parameter) in embeddings or _POSITIONS.search(last):
            kinds[name] = "embedding"
        elif _is_vector(name, parameter, owner=modules[owner]):
            kinds[name] = "vector"
        else:
            kinds[name] = "head" if id(parameter) in head else "matrix"
    return kinds


def _is_vector(name: str, parameter: torch.Tensor, *, owner: nn.Module) -> bool:
    """Return whether a parameter adds or scales one number at a time, whatever its shape."""
    parts = name.split(".")
    if parameter.ndim < 2 or "Norm" in type(owner).__name__ or any(_VECTOR.search(part) for part in parts):
        return True
    # A tensor that is a row in fact, such as [1, 1, D]. A layer's weight with a single output stays a matrix.
    return parts[-1] != "weight" and sum(size > 1 for size in parameter.shape) < 2


def _head_parameters(model: nn.Module) -> set[int]:
    for module in model.modules():
        find = getattr(module, "get_output_embeddings", None)
        head = find() if callable(find) else None
        if isinstance(head, nn.Module):
            return {id(parameter) for parameter in head.parameters()}
    return set()
