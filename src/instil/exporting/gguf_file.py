"""Writes a GGUF file for llama.cpp, through the gguf library (extra ``gguf``): Llama, Mistral, Qwen2 and Qwen3.

llama.cpp runs Mistral as a Llama, without its sliding window. So the file's context ends where the window does.

Why: weights are written in fp32, fp16 or bf16. llama.cpp's own ``llama-quantize`` quantises this file.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import ExportError, MissingPackageError
from instil.exporting.gguf_tokenizer import add_tokenizer

ARCHITECTURES = {"llama": "LLAMA", "mistral": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3"}


def check_gguf(config: Any) -> None:
    """Check that a model can become a GGUF file, as far as its config shows.

    Args:
        config: transformers' config of the model.

    Raises:
        ExportError: If this exporter does not know the architecture.
        MissingPackageError: If gguf is not installed.
    """
    if importlib.util.find_spec("gguf") is None:
        raise MissingPackageError("gguf", needed_for="export --as gguf", extra="gguf")
    if config.model_type not in ARCHITECTURES:
        raise ExportError(
            f"gguf: architecture {config.model_type!r}; allowed are {', '.join(ARCHITECTURES)}. "
            "Convert the merged folder with llama.cpp's own script."
        )


def write_gguf(model: Any, chat: ChatTokenizer, path: Path, *, dtype: torch.dtype, name: str) -> None:
    """Write a model.

    Args:
        model: transformers' model.
        chat: Its tokenizer and template.
        path: The file.
        dtype: Of the matrices; vectors are fp32.
        name: For the file's metadata.

    Raises:
        ExportError: If this exporter does not know the architecture or the tokenizer.
        MissingPackageError: If gguf is not installed.
    """
    check_gguf(model.config)
    import gguf

    config = model.config
    architecture = getattr(gguf.MODEL_ARCH, ARCHITECTURES[config.model_type])
    writer = gguf.GGUFWriter(str(path), gguf.MODEL_ARCH_NAMES[architecture])
    try:
        _add_shape(writer, config, name)
        add_tokenizer(writer, gguf, chat, vocabulary=config.vocab_size)
        names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
        for tensor_name, value in _tensors(model, config):
            _add_tensor(writer, gguf, names, tensor_name, value, dtype)
        kinds = {torch.float32: "ALL_F32", torch.float16: "MOSTLY_F16", torch.bfloat16: "MOSTLY_BF16"}
        writer.add_file_type(getattr(gguf.LlamaFileType, kinds[dtype]))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _add_shape(writer: Any, config: Any, name: str) -> None:
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    rope = config.rope_parameters
    writer.add_name(name)
    window = getattr(config, "sliding_window", None) if config.model_type == "mistral" else None
    writer.add_context_length(min(config.max_position_embeddings, window or config.max_position_embeddings))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_freq_base(rope["rope_theta"])
    kind = rope.get("rope_type", "default")
    if kind == "linear":
        from gguf import RopeScalingType

        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif kind not in ("default", "llama3"):
        raise ExportError(f"gguf: rope type {kind!r}; allowed are default, linear, llama3. Use llama.cpp's own script.")
    if getattr(config, "use_sliding_window", False):
        raise ExportError("gguf: a sliding window is set. llama.cpp's Qwen has none. Use llama.cpp's own script.")


def _tensors(model: Any, config: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the weights by transformers' names; heads of Llama are permuted for llama.cpp's rotary embedding."""
    tied = bool(config.tie_word_embeddings)
    for name, value in model.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        turned = ("q_proj.weight", "k_proj.weight", "q_proj.bias", "k_proj.bias")
        if ARCHITECTURES[config.model_type] == "LLAMA" and name.endswith(turned):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            yield name, interleaved(value, heads)
        else:
            yield name, value
    rope = config.rope_parameters
    if rope.get("rope_type") == "llama3":
        yield "rope_freqs.weight", _llama3_factors(config, rope)


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Reorder a projection's rows from halves (transformers) to pairs (llama.cpp).

    Example:
        >>> interleaved(torch.arange(4.0)[:, None], 1)[:, 0].tolist()
        [0.0, 2.0, 1.0, 3.0]
    """
    rows = weight.shape[0]
    return weight.reshape(heads, 2, rows // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def _llama3_factors(config: Any, rope: dict[str, Any]) -> torch.Tensor:
    """Return the divisors of Llama 3.1's scaled rotary frequencies, as llama.cpp stores them."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    frequencies = 1.0 / rope["rope_theta"] ** (torch.arange(0, width, 2, dtype=torch.float64) / width)
    length = 2 * torch.pi / frequencies
    old = rope["original_max_position_embeddings"]
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    smooth = ((old / length - low) / (high - low)).clamp(0, 1)
    factors: torch.Tensor = (1 / ((1 - smooth) / factor + smooth)).float()
    return factors


def _add_tensor(writer: Any, gguf: Any, names: Any, name: str, value: torch.Tensor, dtype: torch.dtype) -> None:
    target = (
        "rope_freqs.weight" if name == "rope_freqs.weight" else names.get_name(name, try_suffixes=(".weight", ".bias"))
    )
    if target is None:
        raise ExportError(f"gguf: llama.cpp has no place for {name}. Use llama.cpp's own script.")
    value = value.detach().cpu()
    if value.ndim == 1 or dtype == torch.float32:
        writer.add_tensor(target, value.float().numpy())
    elif dtype == torch.float16:
        writer.add_tensor(target, value.to(torch.float16).numpy())
    else:
        raw = value.to(torch.bfloat16).contiguous().view(torch.int16).numpy().view(np.uint8)
        writer.add_tensor(target, raw, raw_dtype=gguf.GGMLQuantizationType.BF16)
