"""Finds the parts of a causal language model: decoder, blocks, output head, and what the model does to its logits.

transformers' models compute ``logits = adjust(head(decoder(ids)))``. The loss needs the three apart, because it runs
the head only on trained rows, in chunks.

Why: `LogitAdjustment` is read from names in the config (soft caps of Gemma; scales of Granite, Cohere, Falcon-H1,
MiniCPM). `probe` compares the result with the model's own logits before a run starts, so an architecture with another
adjustment is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from instil.errors import ModelError
from instil.model.underlying import underlying

SOFT_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
"""Names of the cap in configs: Gemma 2 and its successors, RecurrentGemma, xLSTM."""


@dataclass(frozen=True)
class LogitAdjustment:
    """What a model does, besides the head, between its decoder's states and its logits.

    Attributes:
        input_scale: Factor on the states, before the head.
        scale: Factor on the head's output.
        softcap: After the scale, logits become ``softcap * tanh(logit / softcap)``; None for no cap.
    """

    input_scale: float = 1.0
    scale: float = 1.0
    softcap: float | None = None

    @property
    def is_identity(self) -> bool:
        """Whether the logits are the head's output, unchanged."""
        return self.scale == 1.0 and self.softcap is None

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """Apply the scale and the cap."""
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits


@dataclass(frozen=True)
class HeadParts:
    """The parts of a model; the modules are the model's own, not copies.

    Attributes:
        decoder: Maps ids and positions to `last_hidden_state`.
        head: Maps states [N, D] to scores [N, V]; called as a module, so that adapters on it count.
        adjust: What follows the head.
        vocabulary: V, the number of scores for each token.
    """

    decoder: nn.Module
    head: nn.Module
    adjust: LogitAdjustment
    vocabulary: int

    def to_head(self, states: torch.Tensor) -> torch.Tensor:
        """Return states as the head takes them: scaled, and in its type (Mamba's residual stream stays in fp32)."""
        if self.adjust.input_scale != 1.0:
            states = states * self.adjust.input_scale
        # The weight of peft's wrapper for token rows would be a new copy of the whole table.
        head = getattr(self.head, "original_module", self.head)
        weight = getattr(getattr(head, "base_layer", head), "weight", None)
        is_plain = isinstance(weight, torch.Tensor) and weight.is_floating_point()
        # A head in rows over the processes stores them in fp32 and computes in another type.
        return states.to(getattr(head, "computes_in", weight.dtype)) if weight is not None and is_plain else states


def beyond_text(model: nn.Module) -> list[str]:
    """Return the names of the parts that text never reaches: encoders of images or sound, and what connects them.

    Only the outermost modules are named. The list is empty for a text-only model.
    """
    inner = underlying(model)
    if inner.config.get_text_config(decoder=True) is inner.config:
        return []
    reached = {id(part) for root in (inner.get_decoder(), inner.get_output_embeddings()) for part in root.modules()}
    # What contains a reached part is not beyond text itself; only its other children can be.
    around = {name for name, part in inner.named_modules() if any(id(inside) in reached for inside in part.modules())}
    return [
        name
        for name, part in inner.named_modules()
        if name not in around and name.rpartition(".")[0] in around and any(True for _ in part.parameters())
    ]


def take_apart(model: nn.Module) -> HeadParts:
    """Return a model's decoder, head and logit adjustment.

    Args:
        model: A transformers causal language model, with or without peft's wrapper.

    Raises:
        ModelError: If it has no decoder or no output head.
    """
    inner = underlying(model)
    # Llama 4's text model does not name its decoder by its own prefix.
    decoder = getattr(inner, inner.base_model_prefix, None) or getattr(inner, "model", None)
    if decoder is None:  # Llama 4 with images contains a complete causal model
        decoder = getattr(getattr(inner, "language_model", None), "model", None)
    head = inner.get_output_embeddings()
    if not isinstance(decoder, nn.Module) or decoder is inner or not isinstance(head, nn.Module):
        raise ModelError(
            f"{type(inner).__name__}: has no decoder with an output head. Expected a causal language model. "
            "Use a model that AutoModelForCausalLM loads with a language-model head."
        )
    return HeadParts(decoder, head, adjustment_of(inner), int(inner.config.get_text_config().vocab_size))


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """Return a model's transformer blocks: the longest `ModuleList` of its decoder that text reaches."""
    unread = {id(part) for name in beyond_text(model) for part in underlying(model).get_submodule(name).modules()}
    parts = (part for part in take_apart(model).decoder.modules() if id(part) not in unread)
    lists = [list(part) for part in parts if isinstance(part, nn.ModuleList)]
    return max(lists, key=len) if lists else []


def adjustment_of(model: Any) -> LogitAdjustment:
    """Return the logit adjustment of a transformers model, read from its config.

    Example:
        >>> from types import SimpleNamespace
        >>> adjustment_of(SimpleNamespace(config=SimpleNamespace(model_type="granite", logits_scaling=8.0)))
        LogitAdjustment(input_scale=1.0, scale=0.125, softcap=None)
    """
    config = model.config
    get_text = getattr(config, "get_text_config", None)
    config = get_text() if callable(get_text) else config
    kind, scaling = str(getattr(config, "model_type", "")), float(getattr(config, "logits_scaling", None) or 1.0)
    # What logits_scaling does: MiniCPM divides the states before its head by it, Granite divides the logits,
    # HyperCLOVA X multiplies them.
    before = kind.startswith("minicpm")
    after = 1.0 if before else scaling if kind.startswith("hyperclovax") else 1.0 / scaling
    factors = (float(getattr(config, name, None) or 1.0) for name in ("logit_scale", "lm_head_multiplier"))
    return LogitAdjustment(
        input_scale=1.0 / scaling if before else 1.0,
        scale=math.prod(factors) * after,
        softcap=next((cap for name in SOFT_CAPS if (cap := getattr(config, name, None))), None),
    )
