"""Makes a model from its config, without reading weights, and words what transformers raises over it.

Used before a weight is read, on the device `meta`, to find out what a model looks like; and for random weights.
"""

from __future__ import annotations

from typing import Any

import torch

from instil.errors import SMALLER_WEIGHTS, ModelError
from instil.model.attention.switch import MADE_WITH, set_attention
from instil.model.device_memory import is_out_of_memory
from instil.model.folder.config import is_known, reason_of
from instil.model.folder.location import ModelLocation
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
"""What transformers and torch raise for a config or weights that they cannot make a model of."""


def auto_class(config: Any) -> Any:
    """Return the transformers class to load a model with: the one that its checkpoint names.

    A checkpoint that reads images thus keeps all its parts: as a plain causal model, Qwen3.5 would lose them and
    Qwen2.5-VL would not load.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as WITH_IMAGES

    architecture = (config.architectures or [None])[0]
    reads_images = config.model_type in WITH_IMAGES and (
        architecture == WITH_IMAGES[config.model_type] or not is_known(config.model_type)
    )
    return AutoModelForImageTextToText if reads_images else AutoModelForCausalLM


def model_of_config(location: ModelLocation, config: Any, *, trust: bool, dtype: torch.dtype | None = None) -> Any:
    """Make a model from a config, without weights from disk, on torch's current device, with the attention of training.

    Args:
        location: Where the config came from, for messages.
        config: The model's config.
        trust: Whether code that comes with the model may run.
        dtype: Type of the weights; None for torch's default.

    Raises:
        ModelError: If transformers cannot make the model.
    """
    settings = {} if dtype is None else {"dtype": dtype}
    try:
        with quiet_transformers():
            model = auto_class(config).from_config(
                config, attn_implementation=MADE_WITH, trust_remote_code=trust, **settings
            )
    except CANNOT_LOAD as error:
        raise unusable(location, error, "this device") from None
    set_attention(model, "training")
    return model


def unusable(location: ModelLocation, error: BaseException, device: object) -> ModelError:
    """Return the error for a folder that transformers could not load: out of memory, or transformers' own reason."""
    if is_out_of_memory(error):
        return ModelError(
            f"{location.folder}: no memory for the model on {device}. {SMALLER_WEIGHTS}, or use a larger device."
        )
    return ModelError(
        f"{location.folder}: transformers cannot load it ({reason_of(error)}). "
        "Correct config.json, or copy or download the model again."
    )
