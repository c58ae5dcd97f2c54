"""Reads a model's config.json, and makes models of it without weights.

What is wrong with a config shows in many places of transformers, in words about its own code; here each becomes one line that names the
file. Refused besides: architectures that do not write from left to right, which transformers would load all the same.
"""

from __future__ import annotations

from typing import Any

import torch

from instil.errors import SMALLER_WEIGHTS, ModelError
from instil.model.attention.switch import MADE_WITH, set_attention
from instil.model.folder.location import ModelLocation, read_json
from instil.model.folder.memory_check import is_out_of_memory
from instil.model.library_noise import quiet_transformers

CANNOT_LOAD = (
    ValueError,
    KeyError,
    OSError,
    RuntimeError,
    MemoryError,
    TypeError,
    AttributeError,
    ImportError,
    AssertionError,
)
"""What transformers and torch raise for a config that they cannot make a model of."""


def load_config(location: ModelLocation, *, trust_remote_code: bool = False) -> Any:
    """Read a model's config.

    Raises:
        ModelError: If it is missing, unreadable, of an unknown architecture, or of one that does not write from left to right.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    values = read_json(location.folder / "config.json")
    if "auto_map" in values and not trust_remote_code and not _known(values.get("model_type")):
        raise ModelError(
            f"{location.folder}: the model comes with its own Python code, which is not run unasked; "
            "set model.trust_remote_code: true if you trust it"
        )
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(
                str(location.folder), trust_remote_code=trust_remote_code, local_files_only=True
            )
    except (ValueError, KeyError, OSError, TypeError, AttributeError, ArithmeticError, StrictDataclassError) as error:
        raise ModelError(
            f"{location.folder}/config.json: transformers cannot use it ({reason_of(error)}); "
            "copy or download it again; a newer transformers may know this architecture"
        ) from None
    _check_causal(location, config)
    _check_sizes(location, config)
    return config


def context_length(config: Any) -> int | None:
    """Give the number of tokens that a model was made for, as its config says; None where it names none."""
    text = config.get_text_config(decoder=True)
    length = getattr(text, "max_position_embeddings", None) or getattr(text, "max_seq_len", None)
    return int(length) if length else None


def auto_class(config: Any) -> Any:
    """Give the class of transformers that a model is loaded with: what its checkpoint says, so that it is saved as what it was.

    A checkpoint that reads images keeps all its parts: Qwen3.5's would lose them as a plain causal model, and Qwen2.5-VL's would not load.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as WITH_IMAGES

    asked = (config.architectures or [None])[0]
    reads_images = config.model_type in WITH_IMAGES and (
        asked == WITH_IMAGES[config.model_type] or not _known(config.model_type)
    )
    return AutoModelForImageTextToText if reads_images else AutoModelForCausalLM


def dropout_of(config: Any) -> dict[str, float]:
    """Give the shares of dropout that a model's own config sets, by their names; those of classification heads left out.

    Example:
        >>> from transformers import GPT2Config
        >>> dropout_of(GPT2Config(embd_pdrop=0.0))
        {'attn_pdrop': 0.1, 'resid_pdrop': 0.1}
    """
    named = sorted(config.get_text_config(decoder=True).to_dict().items())
    heads = ("classifier", "summary")
    return {
        name: value
        for name, value in named
        if "drop" in name and not name.startswith(heads) and isinstance(value, float) and 0 < value < 1
    }


def model_of_config(location: ModelLocation, config: Any, *, trust: bool, dtype: torch.dtype | None = None) -> Any:
    """Make a model of a config without weights from disk, on torch's current device, with the attention of training.

    Raises:
        ModelError: If transformers cannot make one of it.
    """
    given = {} if dtype is None else {"dtype": dtype}
    try:
        with quiet_transformers():
            model = auto_class(config).from_config(
                config, attn_implementation=MADE_WITH, trust_remote_code=trust, **given
            )
    except CANNOT_LOAD as error:
        raise unusable(location, error, "this device") from None
    set_attention(model, "training")
    return model


def unusable(location: ModelLocation, error: BaseException, device: object) -> ModelError:
    """Say what transformers raised over a model's folder: that there is no memory, or its reason."""
    if is_out_of_memory(error):
        return ModelError(
            f"{location.folder}: no memory for the model on {device}; {SMALLER_WEIGHTS}, or use a larger device"
        )
    return ModelError(
        f"{location.folder}: transformers cannot load it ({reason_of(error)}); "
        "mend config.json, or copy or download the model again"
    )


def _known(model_type: object) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return isinstance(model_type, str) and model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def _check_causal(location: ModelLocation, config: Any) -> None:
    """Refuse what transformers would load as a causal model though it was not trained as one."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    both_ways = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and _known(config.model_type)
    if both_ways and not (getattr(config, "is_decoder", False) or getattr(config, "causal", False)):
        what = "an encoder, which reads in both directions"
    elif getattr(config, "is_encoder_decoder", False):
        what = "an encoder with a decoder"
    else:
        return
    raise ModelError(
        f"{location.folder}: {config.model_type} is {what}; expected a decoder-only language model, such as Llama or Qwen; "
        "choose another model"
    )


def _check_sizes(location: ModelLocation, config: Any) -> None:
    """Refuse numbers of which transformers makes a model without layers, or one that fails when it is asked."""
    text = config.get_text_config()
    for name in ("num_hidden_layers", "hidden_size", "vocab_size", "num_attention_heads", "max_position_embeddings"):
        value = getattr(text, name, 1)
        if isinstance(value, int) and value < 1:
            raise ModelError(
                f"{location.folder}/config.json: {name} is {value}; expected at least 1; mend config.json or copy it again"
            )
    heads, groups = getattr(text, "num_attention_heads", 1), getattr(text, "num_key_value_heads", None)
    if isinstance(heads, int) and isinstance(groups, int) and (groups < 1 or heads % groups):
        raise ModelError(
            f"{location.folder}/config.json: num_key_value_heads is {groups}; expected a divisor of the {heads} attention heads; "
            "mend config.json or copy it again"
        )


def reason_of(error: BaseException) -> str:
    """Say an error of transformers on one line: a heading with the line below it, a bare key with the error's kind."""
    lines = str(error).split("\n")
    first = " ".join(line.strip() for line in lines[:2]) if lines[0].endswith(":") else lines[0].strip()
    return first if first and not isinstance(error, KeyError) else f"{type(error).__name__} {first}".strip()
