"""Reads a model's config.json and answers questions about it.

A bad config fails in many places of transformers, with messages about its own code. Here each failure becomes one line
that names the file. Encoders are refused too, although transformers would load some of them as causal models.
"""

from __future__ import annotations

from typing import Any

from instil.errors import ModelError
from instil.model.folder.file_checks import read_json
from instil.model.folder.location import ModelLocation
from instil.model.library_noise import quiet_transformers


def load_config(location: ModelLocation, *, trust_remote_code: bool = False) -> Any:
    """Read a model's config.

    Raises:
        ModelError: If it is missing or unreadable, or describes an unknown architecture or one that is not causal.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    values = read_json(location.folder / "config.json")
    if "auto_map" in values and not trust_remote_code and not is_known(values.get("model_type")):
        raise ModelError(
            f"{location.folder}: the model comes with its own Python code, which is not run unasked. "
            "Set model.trust_remote_code: true if you trust it."
        )
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(
                str(location.folder), trust_remote_code=trust_remote_code, local_files_only=True
            )
    except (ValueError, KeyError, OSError, TypeError, AttributeError, ArithmeticError, StrictDataclassError) as error:
        raise ModelError(
            f"{location.folder}/config.json: transformers cannot use it ({reason_of(error)}). "
            "Copy or download it again. A newer transformers may know this architecture."
        ) from None
    _check_causal(location, config)
    _check_sizes(location, config)
    return config


def context_length(config: Any) -> int | None:
    """Return the number of tokens that a model was made for, or None if its config does not state it."""
    text = config.get_text_config(decoder=True)
    length = getattr(text, "max_position_embeddings", None) or getattr(text, "max_seq_len", None)
    return int(length) if length else None


def dropout_of(config: Any) -> dict[str, float]:
    """Return the dropout rates that a model's config sets, by name, without those of classification heads.

    Example:
        >>> from transformers import GPT2Config
        >>> dropout_of(GPT2Config(embd_pdrop=0.0))
        {'attn_pdrop': 0.1, 'resid_pdrop': 0.1}
    """
    settings = sorted(config.get_text_config(decoder=True).to_dict().items())
    heads = ("classifier", "summary")
    return {
        name: value
        for name, value in settings
        if "drop" in name and not name.startswith(heads) and isinstance(value, float) and 0 < value < 1
    }


def is_known(model_type: object) -> bool:
    """Return whether transformers has a causal language model of this type itself."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return isinstance(model_type, str) and model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def reason_of(error: BaseException) -> str:
    """Return an error of transformers as one line.

    A heading that ends in a colon is joined with the line below it; the bare key of a `KeyError` gets the class's name.
    """
    lines = str(error).split("\n")
    first = " ".join(line.strip() for line in lines[:2]) if lines[0].endswith(":") else lines[0].strip()
    return first if first and not isinstance(error, KeyError) else f"{type(error).__name__} {first}".strip()


def _check_causal(location: ModelLocation, config: Any) -> None:
    """Refuse an architecture that transformers would load as a causal model although it was not trained as one."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    both_ways = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and is_known(config.model_type)
    if both_ways and not (getattr(config, "is_decoder", False) or getattr(config, "causal", False)):
        what = "an encoder, which reads in both directions"
    elif getattr(config, "is_encoder_decoder", False):
        what = "an encoder with a decoder"
    else:
        return
    raise ModelError(
        f"{location.folder}: {config.model_type} is {what}. Expected a decoder-only language model, such as Llama or "
        "Qwen. Choose another model."
    )


def _check_sizes(location: ModelLocation, config: Any) -> None:
    """Refuse sizes that would give a model without layers, or one that fails in its first forward pass."""
    text = config.get_text_config()
    for name in ("num_hidden_layers", "hidden_size", "vocab_size", "num_attention_heads", "max_position_embeddings"):
        value = getattr(text, name, 1)
        if isinstance(value, int) and value < 1:
            raise ModelError(
                f"{location.folder}/config.json: {name} is {value}. Expected at least 1. Correct config.json or copy "
                "it again."
            )
    heads, groups = getattr(text, "num_attention_heads", 1), getattr(text, "num_key_value_heads", None)
    if isinstance(heads, int) and isinstance(groups, int) and (groups < 1 or heads % groups):
        raise ModelError(
            f"{location.folder}/config.json: num_key_value_heads is {groups}. Expected a divisor of the {heads} "
            "attention heads. Correct config.json or copy it again."
        )
