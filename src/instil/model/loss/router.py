"""The load-balancing loss of a mixture of experts, example by example.

A mixture's own loss mixes all tokens of a batch, so that it depends on how a step is cut. Here each example has its own, by the
model's own function, weighted with the example's trained weight (see `loss.TokenLoss.forward`).
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from instil.errors import ModelError
from instil.model.attention.layout import FlatLayout


def passes_keywords(decoder: nn.Module) -> bool:
    """Say whether a decoder's forward takes keywords that it does not know, to hand on to its attention layers."""
    parameters = inspect.signature(decoder.forward).parameters.values()
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)


def router_coefficient_of(model: Any, asked: float | None) -> float:
    """Decide the coefficient of the router loss.

    Args:
        model: The transformers model.
        asked: The recipe's coefficient, or None for what the config sets: its own coefficient where the config switches
            the loss on (`output_router_logits`), else 0.

    Raises:
        ModelError: If a coefficient is asked for and the model has no router.
    """
    config = model.config.get_text_config()
    if asked is None:
        on = getattr(config, "output_router_logits", False)
        return float(getattr(config, "router_aux_loss_coef", 0.0) or 0.0) if on else 0.0
    if asked and _balancing_function(model) is None:
        raise ModelError(
            f"training.router_loss: {type(model).__name__} has no load-balancing loss; "
            "it is for mixtures of experts such as Mixtral and Qwen3-MoE; leave the setting empty"
        )
    return float(asked)


def router_loss(
    model: Any, router_logits: Sequence[torch.Tensor], weights: torch.Tensor, layout: FlatLayout
) -> torch.Tensor:
    """Sum the examples' router losses, each times the example's trained weight.

    Args:
        model: The transformers model.
        router_logits: One [T, experts] tensor a layer.
        weights: T weights.
        layout: The examples.
    """
    balance = _balancing_function(model)
    assert balance is not None
    config = model.config.get_text_config()
    num_experts = getattr(model, "num_experts", None) or config.num_local_experts
    top_k = getattr(model, "num_experts_per_tok", None) or config.num_experts_per_tok
    lengths = list(layout.lengths)
    layers = [torch.split(layer.reshape(-1, layer.shape[-1]), lengths) for layer in router_logits]
    total = torch.zeros((), device=weights.device)
    for example, example_weights in zip(zip(*layers, strict=True), torch.split(weights, lengths), strict=True):
        total = total + example_weights.sum() * balance(tuple(example), num_experts, top_k).float()
    return total


def _balancing_function(model: Any) -> Any:
    return getattr(sys.modules.get(type(model).__module__), "load_balancing_loss_func", None)
