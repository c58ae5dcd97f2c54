"""Switches a model between this package's attention, which training needs, and transformers' own with masks and caches.

A model is made with the one attention that every architecture has and then switched: some classes (Falcon, GPT-J, GPT-Neo) look a layer up by the
attention's name while they are made, and know no other names than transformers'.
"""

from __future__ import annotations

from typing import Any, Literal

from instil.model.attention import flat as attention
from instil.model.parts import underlying

Purpose = Literal["training", "generation"]
MADE_WITH = "eager"
"""The attention that every architecture has."""


def set_attention(model: Any, purpose: Purpose) -> None:
    """Give a model, or the one inside peft's, the attention of training or of generation.

    Classes whose attention asks nobody (Bloom, MPT, Falcon, GPT-J) keep their own, with masks that transformers makes for it: the mask follows
    the attention's name, and for ours there would be none at all.
    """
    inner = underlying(model)
    if not inner._can_set_attn_implementation():
        inner.config._attn_implementation = MADE_WITH
        return
    inner.set_attn_implementation(attention.register() if purpose == "training" else generation_attention(inner))


def generation_attention(model: Any) -> str:
    """Name the attention of transformers that serves a model in generation: `sdpa` where it can, else `eager`.

    A soft cap needs `eager`: older transformers choose `sdpa` for Gemma 2, which leaves its cap out (0.005 spreads in the logits
    of a tiny model; `probe` finds it).
    """
    capped = getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None
    return "sdpa" if getattr(model, "_supports_sdpa", False) and not capped else "eager"
