"""Loads a model and its tokenizer, and writes a plain Hugging Face folder.

Weights come from safetensors only and code that comes with a model runs only where the recipe says so. Questionable on
purpose: for mixed precision (`bf16`, `fp16`) weights that train are loaded in fp32, for training makes its master copies of them;
`pure_bf16`, generation and frozen bases get them in the smaller type at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch

from instil.errors import ModelError
from instil.model.attention.switch import MADE_WITH, Purpose, set_attention
from instil.model.folder.config import CANNOT_LOAD, auto_class, load_config, model_of_config, reason_of, unusable
from instil.model.folder.location import ModelLocation, check_adapter, check_tokenizer, check_weights, locate, read_json
from instil.model.folder.memory_check import check_room
from instil.model.folder.weight_checks import check_finite, check_report
from instil.model.library_noise import quiet_transformers
from instil.model.quantization import close_shortcuts, quantization_config
from instil.model.speedups.gates import slim_gates
from instil.model.speedups.norms import speed_up_norms
from instil.recipe import ModelSettings

Precision = Literal["auto", "fp32", "bf16", "pure_bf16", "fp16"]
DEVICES = ("cpu", "cuda", "mps", "xpu")


def choose_device(asked: str) -> torch.device:
    """Give the device of a recipe: `auto` is CUDA, else MPS, else the CPU.

    Raises:
        ModelError: If the asked device is not there.
    """
    if asked == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(asked)
        if device.type not in DEVICES:
            raise RuntimeError("it is none of those that models train on")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"device: {asked!r} cannot be used ({reason}); expected auto or one of {', '.join(DEVICES)}; set device: auto"
        ) from None
    return device


def choose_precision(asked: Precision, device: torch.device) -> Precision:
    """Resolve `auto`: bf16 where the device computes fast in it, else fp32."""
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    if device.type == "cpu":
        return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"
    return "fp32"


def weight_type(precision: Precision, purpose: Purpose, *, frozen: bool = False) -> torch.dtype:
    """Give the type that weights are kept in; a frozen base under adapters needs no fp32 master weights."""
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
    """Load a model, or make a random one of its config.

    Args:
        settings: Which model, and how.
        precision: Not `auto` (see `choose_precision`).
        device: Where to.
        purpose: Training sets this package's attention and keeps fp32 weights for mixed precision; generation does neither.
        seed: Of random weights.
        location: The model's place, if the caller has it already.
        frozen: Only adapters will train, so that the weights may be kept in the smaller type.

    Returns:
        transformers' model, with peft's wrapper around it where the name is an adapter.

    Raises:
        ModelError: If a part is missing or does not fit; the message names the folder and the remedy.
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
    if settings.quantize != "none":
        close_shortcuts(model, trains=purpose == "training")
    set_attention(model, purpose)
    if purpose == "training":
        lighten_layers(model, torch.device(device))
    if location.adapter_folder is not None:
        from instil.model.adapters.lora import open_adapter

        model = open_adapter(model, location.adapter_folder, trains=purpose == "training")
    check_finite(location.adapter_folder or location.folder, model)
    return model.train(purpose == "training")


def lighten_layers(model: Any, device: torch.device) -> None:
    """Give a model that trains the gates and, on a CPU, the norms that take less, in place; the device may be another than the weights' own."""
    slim_gates(model)
    if device.type == "cpu":
        speed_up_norms(model)


def check_loadable(
    settings: ModelSettings, location: ModelLocation, *, dtype: torch.dtype, device: torch.device, copies: int = 1
) -> None:
    """Check, without reading a weight, that a model's files are there and whole and that there is room for so many copies.

    Raises:
        ModelError: If not.
    """
    if settings.initialise == "random":
        return
    check_weights(location.folder)
    if (location.folder / "generation_config.json").exists():
        read_json(location.folder / "generation_config.json")  # transformers would go on without a damaged one
    if location.adapter_folder is not None:
        check_adapter(location.adapter_folder)
    check_room(location.folder, dtype=dtype, quantize=settings.quantize, device=device, copies=copies)


def load_tokenizer(location: ModelLocation, *, trust_remote_code: bool = False) -> Any:
    """Load the tokenizer of a located model.

    Raises:
        ModelError: If there is none or it cannot be read.
    """
    from transformers import AutoTokenizer

    folder = location.tokenizer_folder
    check_tokenizer(folder)
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(
                str(folder), trust_remote_code=trust_remote_code, local_files_only=True
            )
    except Exception as error:  # tokenizers raises bare Exception for damaged files
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"{folder}: the tokenizer comes with its own Python code, which is not run unasked; "
                "set model.trust_remote_code: true (--trust-remote-code) if you trust it"
            ) from None
        if (folder / "config.json").exists():  # transformers asks it which tokenizer this is: the fault may lie there
            load_config(replace(location, folder=folder), trust_remote_code=trust_remote_code)
        raise ModelError(f"{folder}: the tokenizer cannot be read ({reason_of(error)}); copy it again") from None
    # Lengths are data.max_tokens' business; transformers would warn of the proof's conversations.
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    if not isinstance(tokenizer.model_max_length, int | float):
        raise ModelError(
            f"{folder}/tokenizer_config.json: model_max_length is {tokenizer.model_max_length!r}; expected a number; mend it"
        )
    return tokenizer


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
    quantized = quantization_config(settings.quantize, dtype)
    try:
        with quiet_transformers():
            model, report = auto_class(config).from_pretrained(
                str(location.folder),
                config=config,
                dtype=dtype,
                attn_implementation=MADE_WITH,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # reported by check_report instead, with the tensor's name
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
    """Let the config say that a head is the model's own where its weights came beside the embedding's, against what the config said.

    transformers leaves the two apart then, but would tie them when rows are added, and other readers of the saved folder at once.
    """
    head = model.get_output_embeddings()
    if head is None or head.weight is model.get_input_embeddings().weight:
        return
    for config in (model.config, model.config.get_text_config(decoder=True)):
        if getattr(config, "tie_word_embeddings", False):
            config.tie_word_embeddings = False
