"""Tiny random models of the architectures that people fine-tune."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from instil.model.attention.flat import register_attention
from instil.model.attention.switch import set_attention

VOCABULARY = 97
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MIXTURE: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": SMALL,
    "qwen2": SMALL | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "qwen3": SMALL | {"tie_word_embeddings": True},
    "mistral": SMALL | {"sliding_window": 4},
    "gemma2": SMALL | {"sliding_window": 4, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 2.0},
    "gemma3_text": SMALL | {"sliding_window": 4, "query_pre_attn_scalar": 8, "layer_types": ["sliding_attention", "full_attention"]},
    "phi3": SMALL | {"sliding_window": 4},
    "smollm3": SMALL | {"no_rope_layers": [1, 0]},
    "gpt2": {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "bos_token_id": 1, "eos_token_id": 2},
    "olmo2": SMALL,
    "qwen3_moe": SMALL | MIXTURE | {"num_experts": 4},
    "mixtral": SMALL | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 4},
    "gpt_oss": SMALL | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
    "granite": SMALL | {"logits_scaling": 4.0, "attention_multiplier": 0.2, "embedding_multiplier": 2.0},
    "cohere": SMALL | {"logit_scale": 0.25},
    "cohere2": SMALL | {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
    "llama4_text": SMALL | {"num_local_experts": 4, "num_experts_per_tok": 1, "intermediate_size_mlp": 48, "interleave_moe_layer_step": 2, "attention_chunk_size": 4, "no_rope_layers": [1, 0]},
    "gemma3n_text": SMALL | {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"], "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0, "laurel_rank": 4, "activation_sparsity_pattern": [0.0, 0.0], "altup_num_inputs": 2, "intermediate_size": [48, 48]},
    "deepseek_v3": SMALL | MIXTURE | {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "first_k_dense_replace": 1, "n_shared_experts": 1, "num_key_value_heads": 4},
}  # fmt: skip

MIXING: dict[str, dict[str, Any]] = {
    "mamba": {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
    "bloom": {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "n_layer": 2,
        "n_head": 4,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
    },
    "lfm2": SMALL | {"layer_types": ["conv", "full_attention"], "block_ff_dim": 48, "block_auto_adjust_ff_dim": False},
    "qwen3_5_text": SMALL
    | {
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_value_heads": 2,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    },
}


def tiny_model(
    name: str,
    *,
    seed: int = 0,
    attention: str | None = None,
    settings: dict[str, Any] | None = None,
    **changes: Any,
) -> Any:
    """Make a random model of an architecture, with these settings or those of the tables above; dropout is off, fp32."""
    settings = ((ARCHITECTURES | MIXING)[name] if settings is None else settings) | changes
    config = AutoConfig.for_model(name, **settings)
    for key in ("attn_pdrop", "embd_pdrop", "resid_pdrop"):
        if hasattr(config, key):
            setattr(config, key, 0.0)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation=attention or register_attention()
    )
    if attention is None:
        set_attention(model, "training")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model.train()


def random_examples(lengths: list[int], *, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Draw ids and fractional weights (some 0, the first always) of examples of these lengths."""
    generator = torch.Generator().manual_seed(seed)
    examples = []
    for length in lengths:
        ids = torch.randint(3, VOCABULARY, (length,), generator=generator)
        weights = torch.randint(0, 4, (length,), generator=generator) / 2.0
        weights[0] = 0.0
        examples.append((ids, weights))
    return examples
