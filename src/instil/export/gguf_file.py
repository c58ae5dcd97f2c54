"""Writes a GGUF file for llama.cpp, through the gguf library (extra ``gguf``): Llama, Qwen2 and Qwen3 architectures.

The tokenizer's pre-tokenization must be one that llama.cpp knows by name; it is recognised by its rules, and an unknown one is
refused, because a wrong one gives other ids without any error. Questionable on purpose: weights are written in fp32, fp16 or bf16,
never quantised here; llama.cpp's own ``llama-quantize`` does that from this file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import ExportError, MissingPackageError

ARCHITECTURES = {"llama": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3"}
NO_MERGE = "[PAD] [PAD]"
"""Stands for an empty list, which llama.cpp refuses. Pieces begin as single characters, so this pair never comes up."""
_LLAMA3 = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
_QWEN2 = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"


def write_gguf(model: Any, chat: ChatTokenizer, path: Path, *, dtype: torch.dtype, name: str) -> None:
    """Write a model.

    Args:
        model: transformers' model.
        chat: Its tokenizer and template.
        path: The file.
        dtype: Of the matrices; vectors are fp32.
        name: For the file's metadata.

    Raises:
        ExportError: If architecture or tokenizer is none that llama.cpp knows under this exporter.
        MissingPackageError: If gguf is not installed.
    """
    try:
        import gguf
    except ImportError:
        raise MissingPackageError("gguf", needed_for="export --as gguf", extra="gguf") from None
    config = model.config
    if config.model_type not in ARCHITECTURES:
        raise ExportError(
            f"gguf: architecture {config.model_type!r}; allowed are {', '.join(ARCHITECTURES)}; "
            "convert the merged folder with llama.cpp's own script"
        )
    architecture = getattr(gguf.MODEL_ARCH, ARCHITECTURES[config.model_type])
    writer = gguf.GGUFWriter(str(path), gguf.MODEL_ARCH_NAMES[architecture])
    try:
        _add_shape(writer, config, name)
        _add_tokenizer(writer, gguf, chat, vocabulary=config.vocab_size)
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
    writer.add_context_length(config.max_position_embeddings)
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
        raise ExportError(f"gguf: rope type {kind!r}; allowed are default, linear, llama3; use llama.cpp's own script")
    if getattr(config, "use_sliding_window", False):
        raise ExportError("gguf: a sliding window is set; llama.cpp's Qwen has none; use llama.cpp's own script")


def _add_tokenizer(writer: Any, gguf: Any, chat: ChatTokenizer, *, vocabulary: int) -> None:
    tokenizer = chat.tokenizer
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    kind = gguf.TokenType
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer_name(backend))
    known = {number: text for text, number in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    tokens, types = [], []
    for number in range(vocabulary):
        tokens.append(known.get(number, f"[PAD{number}]"))
        if number in added:
            special = added[number].special or number in chat.stop_ids
            types.append(kind.CONTROL if special else kind.USER_DEFINED)
        else:
            types.append(kind.NORMAL if number in known else kind.UNUSED)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in backend["model"]["merges"]]
    writer.add_token_merges(merges or [NO_MERGE])
    writer.add_eos_token_id(chat.stop_ids[0])
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    # The template prints BOS itself where it wants one.
    writer.add_add_bos_token(False)
    writer.add_chat_template(chat.template.source)


def pre_tokenizer_name(backend: dict[str, Any]) -> str:
    """Name a tokenizer's pre-tokenization as llama.cpp does.

    Raises:
        ExportError: If llama.cpp is not known to have it.

    Example:
        >>> pre_tokenizer_name({"model": {"type": "BPE"}, "pre_tokenizer": {"type": "ByteLevel", "use_regex": True}})
        'gpt-2'
    """
    steps = backend.get("pre_tokenizer") or {}
    steps = steps.get("pretokenizers", [steps])
    last = steps[-1]
    if backend["model"]["type"] == "BPE" and last.get("type") == "ByteLevel" and not last.get("add_prefix_space"):
        before = steps[:-1]
        if not before and last.get("use_regex", True):
            return "gpt-2"
        digits = len(before) == 1 and before[0].get("type") == "Digits" and before[0].get("individual_digits")
        if digits and last.get("use_regex", True):
            return "smollm"
        if len(before) == 1 and before[0].get("type") == "Split" and not last.get("use_regex", True):
            pattern = before[0]["pattern"].get("Regex", "")
            if _LLAMA3 in pattern:
                return "llama-bpe"
            if _QWEN2 in pattern:
                return "qwen2"
    raise ExportError(
        "gguf: llama.cpp's name of this tokenizer's pre-tokenization is not known here; allowed are those of GPT-2, SmolLM, "
        "Llama 3 and Qwen; convert the merged folder with llama.cpp's own script"
    )


def _tensors(model: Any, config: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Give the weights by transformers' names, heads of Llama permuted as llama.cpp's rotary embedding wants them."""
    tied = bool(config.tie_word_embeddings)
    for name, value in model.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        if config.model_type == "llama" and name.endswith(
            ("q_proj.weight", "k_proj.weight", "q_proj.bias", "k_proj.bias")
        ):
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
    """Give the divisors of Llama 3.1's stretched rotary frequencies, as llama.cpp stores them."""
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
        raise ExportError(f"gguf: llama.cpp has no place for {name}; use llama.cpp's own script")
    value = value.detach().cpu()
    if value.ndim == 1 or dtype == torch.float32:
        writer.add_tensor(target, value.float().numpy())
    elif dtype == torch.float16:
        writer.add_tensor(target, value.to(torch.float16).numpy())
    else:
        raw = value.to(torch.bfloat16).contiguous().view(torch.int16).numpy().view(np.uint8)
        writer.add_tensor(target, raw, raw_dtype=gguf.GGMLQuantizationType.BF16)
