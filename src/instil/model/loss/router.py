"""The load-balancing loss of a mixture of experts, example by example.

Why: a mixture's own loss covers all tokens of a batch, so it would depend on how a step is cut into micro-batches. Here
the model's own function is applied to each example, and weighted with the example's trained weight (see
`TokenLoss.forward`).
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
    """Return whether a decoder's forward accepts unknown keywords and passes them on to its attention layers."""
    parameters = inspect.signature(decoder.forward).parameters.values()
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)


def router_coefficient_of(model: Any, coefficient: float | None) -> float:
    """Return the coefficient of the router loss.

    Args:
        model: The transformers model.
        coefficient: The recipe's coefficient. None takes the config's own if the config switches the loss on
            (`output_router_logits`), else 0.

    Raises:
        ModelError: If the recipe sets a coefficient and the model has no router.
    """
    config = model.config.get_text_config()
    if coefficient is None:
        on = getattr(config, "output_router_logits", False)
        return float(getattr(config, "router_aux_loss_coef", 0.0) or 0.0) if on else 0.0
    if coefficient and _balancing_function(model) is None:
        raise ModelError(
            f"training.router_loss: {type(model).__name__} has no load-balancing loss. "
            "Expected a mixture of experts such as Mixtral or Qwen3-MoE. Leave the setting empty."
        )
    return float(coefficient)


def router_loss(
    model: Any, router_logits: Sequence[torch.Tensor], weights: torch.Tensor, layout: FlatLayout
) -> torch.Tensor:
    """Return the sum of the examples' router losses, each multiplied by the example's trained weight.

    Args:
        model: The transformers model.
        router_logits: One [T, experts] tensor for each layer.
        weights: T weights.
        layout: The examples. If processes share their tokens, logits and weights are those of this process's tokens,
            and the result is its share of the sum.
    """
    balance = _balancing_function(model)
    assert balance is not None
    config = model.config.get_text_config()
    num_experts = getattr(model, "num_experts", None) or config.num_local_experts
    top_k = getattr(model, "num_experts_per_tok", None) or config.num_experts_per_tok
    lengths = list(layout.lengths)
    logits, sequence = [layer.reshape(-1, layer.shape[-1]) for layer in router_logits], layout.sequence
    if sequence is not None:
        # The loss of an example is not a sum over its tokens: every process needs all of them.
        logits = [sequence.gather_rows(layer) for layer in logits]
        weights = sequence.gather_rows(weights[:, None])[:, 0]
    layers = [torch.split(layer, lengths) for layer in logits]
    total = torch.zeros((), device=weights.device)
    for example, example_weights in zip(zip(*layers, strict=True), torch.split(weights, lengths), strict=True):
        total = total + example_weights.sum() * balance(tuple(example), num_experts, top_k).float()
    return total if sequence is None else total / sequence.size


def _balancing_function(model: Any) -> Any:
    return getattr(sys.modules.get(type(model).__module__), "load_balancing_loss_func", None)
