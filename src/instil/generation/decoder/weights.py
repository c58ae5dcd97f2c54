"""Read a model of transformers as the tensors that a step needs; each layer's projections are laid out side by side.

A plain layer is: RMS norm, attention with rotary positions, RMS norm, gated MLP with SiLU. The query, key and value
weights become one matrix, as do gate and up. The model's own parameters then point into these matrices, so nothing is
kept twice and the model stays as it was.

Shapes: E width, H heads, K key-value heads, D width of a head, I width of the MLP, V vocabulary.

Why: a step reads every weight once, so its time is memory's. What is left to save is the time between the reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from instil.model.attention.flat import ATTENTION_NAME
from instil.model.quantization import is_quantized

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
"""Classes of transformers whose layers may be plain. Their configs, and a proof for each model, decide."""
DTYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWeights:
    """The tensors of one layer.

    Attributes:
        input_norm: [E].
        qkv: [(H + 2K) D, E]: queries, keys, values.
        qkv_bias: [(H + 2K) D], or None.
        qk_norm: [H + K, D], the weights of the norms of queries and keys; None for models without them.
        output: [E, H D].
        mlp_norm: [E].
        gate_up: [2I, E]: gate, then up.
        down: [E, I].
    """

    input_norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    qk_norm: Tensor | None
    output: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainWeights:
    """A model as tensors.

    Attributes:
        embedding: [V, E].
        layers: From the first to the last.
        norm: [E].
        head: [V, E]; the embedding itself where it is tied.
        rotary: The model's module of rotary positions.
        num_heads: H.
        num_kv_heads: K.
        head_width: D.
        eps: Of the RMS norms.
    """

    embedding: Tensor
    layers: tuple[LayerWeights, ...]
    norm: Tensor
    head: Tensor
    rotary: nn.Module
    num_heads: int
    num_kv_heads: int
    head_width: int
    eps: float


def why_not_plain(model: nn.Module) -> str | None:
    """Return what keeps a model from being read as plain layers, or None. Reads no weight."""
    config: Any = model.config
    name, parameters = type(model).__name__, list(model.parameters())
    if name not in ARCHITECTURES or not type(model).__module__.startswith("transformers.models."):
        return f"{name} is not among {', '.join(ARCHITECTURES)}"
    if is_quantized(model):
        return "its weights are quantized"
    if any(parameter.device.type != "cpu" for parameter in parameters):
        return "it is not on the CPU"
    if len(types := {parameter.dtype for parameter in parameters}) > 1 or not types <= set(DTYPES):
        return f"its weights are {', '.join(sorted(map(str, types)))}"
    if config._attn_implementation == ATTENTION_NAME:
        return "it has the attention of training"
    if config.hidden_act not in ("silu", "swish"):
        return f"its MLP uses {config.hidden_act}"
    # A config may name a window that no layer uses.
    if any(kind != "full_attention" for kind in _layer_types(config)):
        return "its attention has a window"
    if (rotary := config.rope_parameters["rope_type"]) in ("longrope", "dynamic"):
        return f"its rotary positions depend on the length ({rotary})"
    layers: Any = model.model.layers  # type: ignore[union-attr]
    biased = [
        module
        for layer in layers
        for module in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj)
    ]
    others = [module for layer in layers for module in (layer.self_attn.o_proj, *_mlp(layer))]
    others.append(model.lm_head)
    if any(type(module) is not nn.Linear for module in (*biased, *others)):
        return "its layers are not plain matrices"
    if any(module.bias is not None for module in others):
        return "its output or its MLP has a bias"
    return None


def lay_out(model: Any) -> PlainWeights:
    """Lay the weights of a plain model out for its steps.

    Args:
        model: A model for which `why_not_plain` returns None. Its parameters keep their values and their places in
            the model; those of a layer's projections become parts of two larger tensors.
    """
    inner, config = model.model, model.config
    layers = []
    for layer in inner.layers:
        attention, mlp = layer.self_attn, layer.mlp
        qkv = [attention.q_proj, attention.k_proj, attention.v_proj]
        norms: list[Any] = [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
        counts = (config.num_attention_heads, config.num_key_value_heads)
        layers.append(
            LayerWeights(
                input_norm=layer.input_layernorm.weight.detach(),
                qkv=_side_by_side(qkv),
                qkv_bias=None if qkv[0].bias is None else torch.cat([module.bias.detach() for module in qkv]),
                qk_norm=None
                if norms[0] is None
                else torch.cat([norm.weight.detach().expand(n, -1) for norm, n in zip(norms, counts, strict=True)]),
                output=attention.o_proj.weight.detach(),
                mlp_norm=layer.post_attention_layernorm.weight.detach(),
                gate_up=_side_by_side([mlp.gate_proj, mlp.up_proj]),
                down=mlp.down_proj.weight.detach(),
            )
        )
    return PlainWeights(
        embedding=inner.embed_tokens.weight.detach(),
        layers=tuple(layers),
        norm=inner.norm.weight.detach(),
        head=model.lm_head.weight.detach(),
        rotary=inner.rotary_emb,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        head_width=inner.layers[0].self_attn.head_dim,
        eps=config.rms_norm_eps,
    )


def _side_by_side(modules: Sequence[nn.Linear]) -> Tensor:
    """Return the weights of several projections as one matrix, into which their parameters point from now on."""
    whole = torch.cat([module.weight.detach() for module in modules])
    first = 0
    for module in modules:
        rows = module.weight.shape[0]
        module.weight.data = whole[first : first + rows]
        first += rows
    return whole


def _mlp(layer: Any) -> tuple[Any, Any, Any]:
    return layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj


def _layer_types(config: Any) -> Sequence[str]:
    """Return the kind of each layer; Mistral's config has a window for all of them instead."""
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return list(kinds)
    return ["full_attention" if getattr(config, "sliding_window", None) is None else "sliding_attention"]
