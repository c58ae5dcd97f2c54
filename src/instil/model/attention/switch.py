"""Switches a model between instil's attention, which training needs, and transformers' own, with masks and caches.

Why: a model is made with the one attention that every architecture has, and switched afterwards. Some classes (Falcon,
GPT-J, GPT-Neo) choose their attention layers by name while they are made, and know only transformers' names.
"""

from __future__ import annotations

from typing import Any, Literal

from instil.model.attention.flat import register_attention
from instil.model.underlying import underlying

Purpose = Literal["training", "generation"]
MADE_WITH = "eager"
"""The attention that every architecture has."""


def set_attention(model: Any, purpose: Purpose) -> None:
    """Set the attention of training or of generation on a model, or on the model inside peft's wrapper.

    Classes with an attention of their own (Bloom, MPT, Falcon, GPT-J) keep it, under the name of transformers' eager
    attention. transformers chooses masks by that name, and would make none for instil's.
    """
    inner = underlying(model)
    if not inner._can_set_attn_implementation():
        inner.config._attn_implementation = MADE_WITH
        return
    inner.set_attn_implementation(register_attention() if purpose == "training" else generation_attention(inner))


def generation_attention(model: Any) -> str:
    """Return the name of transformers' attention for generation: `sdpa` if the model supports it, else `eager`.

    A soft cap needs `eager`. Older transformers choose `sdpa` for Gemma 2, which ignores the cap: the logits of a tiny
    model are then off by 0.005 standard deviations, which `probe` finds.
    """
    capped = getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None
    return "sdpa" if getattr(model, "_supports_sdpa", False) and not capped else "eager"
