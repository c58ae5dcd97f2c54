"""Loads a model: its config, its weights, the attention it is used with, and an adapter if the name refers to one.

Flow: `folder.location` finds the folder, `folder.file_checks` and `folder.memory_check` check it, then the weights are
read here. Weights come from safetensors only. Code that comes with a model runs only if the recipe allows it.

Why: with mixed precision (`bf16`, `fp16`), trained weights are loaded in fp32, because they serve as master weights.
`pure_bf16`, generation and frozen bases get the smaller type directly.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

from instil.errors import ModelError
from instil.model.adapters.saved import open_adapter
from instil.model.attention.switch import MADE_WITH, Purpose, set_attention
from instil.model.folder.config import load_config
from instil.model.folder.file_checks import check_adapter, check_weights, read_json
from instil.model.folder.from_config import CANNOT_LOAD, auto_class, model_of_config, unusable
from instil.model.folder.location import ModelLocation, locate
from instil.model.folder.memory_check import check_room
from instil.model.folder.weight_checks import check_finite, check_report
from instil.model.library_noise import quiet_transformers
from instil.model.quantization import close_shortcuts, is_quantized, quantization_config, stored_quantization
from instil.model.speedups.gates import slim_gates
from instil.model.speedups.norms import speed_up_norms
from instil.recipe import ModelSettings

Precision = Literal["auto", "fp32", "bf16", "pure_bf16", "fp16"]
DEVICES = ("cpu", "cuda", "mps", "xpu")


def choose_device(name: str) -> torch.device:
    """Return the device that a recipe names; `auto` is CUDA if there is one, else MPS, else the CPU.

    Raises:
        ModelError: If this machine does not have the device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in DEVICES:
            raise RuntimeError("models cannot train on it")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"device: {name!r} cannot be used ({reason}). Expected auto or one of {', '.join(DEVICES)}. Set device: "
            "auto."
        ) from None
    return device


def choose_precision(precision: Precision, device: torch.device) -> Precision:
    """Resolve `auto` to bf16 if the device has fast bf16 arithmetic, else to fp32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    if device.type == "cpu":
        return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"
    return "fp32"


def weight_type(precision: Precision, purpose: Purpose, *, frozen: bool = False) -> torch.dtype:
    """Return the type that weights are kept in; a frozen base under adapters needs no fp32 master weights."""
    small = purpose == "generation" or frozen
    if precision == "pure_bf16" or (precision == "bf16" and small):
        return torch.bfloat16
    if precision == "fp16" and small:
        return torch.float16
    return torch.float32


def load_model(
    settings: ModelSettings,
    *,
    precision: Precision,
    device: torch.device | str = "cpu",
    purpose: Purpose = "training",
    seed: int = 0,
    location: ModelLocation | None = None,
    frozen: bool = False,
) -> Any:
    """Load a model, or make a random one from its config.

    Args:
        settings: The recipe's `model`.
        precision: Not `auto` (see `choose_precision`).
        device: Where the weights go.
        purpose: Training sets instil's attention and keeps fp32 weights for mixed precision; generation does neither.
        seed: Seed of random weights.
        location: The model's location, if the caller knows it already.
        frozen: Whether only adapters will train, so that the weights can be kept in the smaller type.

    Returns:
        transformers' model, inside peft's wrapper if the name refers to an adapter.

    Raises:
        ModelError: If a part is missing, damaged or does not fit.
    """
    location = location or locate(settings.name, settings.revision, trust_remote_code=settings.trust_remote_code)
    config = load_config(location, trust_remote_code=settings.trust_remote_code)
    dtype = weight_type(precision, purpose, frozen=frozen)
    if settings.initialise == "random":
        model = _random(location, config, dtype=dtype, seed=seed, trust=settings.trust_remote_code)
        model = model.to(device)
    else:
        check_loadable(settings, location, dtype=dtype, device=torch.device(device))
        model = _pretrained(location, config, settings, dtype=dtype, device=torch.device(device))
    if is_quantized(model):
        close_shortcuts(model, trains=purpose == "training")
    set_attention(model, purpose)
    if purpose == "training":
        lighten_layers(model, torch.device(device))
    if location.adapter_folder is not None:
        model = open_adapter(model, location.adapter_folder, trains=purpose == "training")
    check_finite(location.adapter_folder or location.folder, model)
    return model.train(purpose == "training")


def lighten_layers(model: Any, device: torch.device) -> None:
    """Replace the gated MLPs, and on a CPU the norms, by versions that need less memory or time. In place.

    Args:
        model: A model that will train; its weights may still be on another device.
        device: Where it will train.
    """
    slim_gates(model)
    if device.type == "cpu":
        speed_up_norms(model)


def check_loadable(
    settings: ModelSettings,
    location: ModelLocation,
    *,
    dtype: torch.dtype,
    device: torch.device,
    copies: int = 1,
    parts: int = 1,
) -> None:
    """Check, without reading a weight, that a model's files are complete and that it fits into memory.

    Args:
        settings: The recipe's section on the model.
        location: Where it is.
        dtype: Type that its weights will have.
        device: Where they go.
        copies: As for `check_room`.
        parts: As for `check_room`.

    Raises:
        ModelError: If a file is missing or damaged, or memory is short.
    """
    if settings.initialise == "random":
        return
    check_weights(location.folder)
    if (location.folder / "generation_config.json").exists():
        read_json(location.folder / "generation_config.json")  # transformers would ignore a damaged one
    if location.adapter_folder is not None:
        check_adapter(location.adapter_folder)
    check_room(location.folder, dtype=dtype, quantize=settings.quantize, device=device, copies=copies, parts=parts)


def _random(location: ModelLocation, config: Any, *, dtype: torch.dtype, seed: int, trust: bool) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model_of_config(location, config, trust=trust, dtype=dtype)


def _pretrained(
    location: ModelLocation,
    config: Any,
    settings: ModelSettings,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> Any:
    # A folder that is stored quantised brings its own settings; `check_stored_quantization` has compared them.
    quantized = None if stored_quantization(config) else quantization_config(settings.quantize, dtype)
    try:
        with quiet_transformers():
            model, report = auto_class(config).from_pretrained(
                str(location.folder),
                config=config,
                dtype=dtype,
                attn_implementation=MADE_WITH,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # check_report names the tensor instead
                local_files_only=True,
                trust_remote_code=settings.trust_remote_code,
                device_map={"": device},
                quantization_config=quantized,
                output_loading_info=True,
            )
    except CANNOT_LOAD as error:
        raise unusable(location, error, device) from None
    check_report(location, report)
    _own_head(model)
    return model


def _own_head(model: Any) -> None:
    """Mark a head as untied in the config if its weights were loaded separately, although the config called it tied.

    transformers keeps such a head apart at first, but would tie it when rows are added. Other readers of the saved
    folder would tie it at once.
    """
    head = model.get_output_embeddings()
    if head is None or head.weight is model.get_input_embeddings().weight:
        return
    for config in (model.config, model.config.get_text_config(decoder=True)):
        if getattr(config, "tie_word_embeddings", False):
            config.tie_word_embeddings = False
