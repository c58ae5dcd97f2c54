"""Quantised base weights through bitsandbytes: nf4 with double quantisation, or 8-bit.

Questionable on purpose: bitsandbytes is told not to fetch kernels from the network; what it needs must be installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from typing import Any, Literal

import torch

from instil.errors import MissingPackageError

Quantize = Literal["none", "4bit", "8bit"]


def quantization_config(quantize: Quantize, compute_dtype: torch.dtype) -> Any:
    """Give transformers' configuration of a quantised model, or None.

    Args:
        quantize: `4bit` is nf4 with double quantisation, as QLoRA has it.
        compute_dtype: Type that weights are unpacked to for arithmetic.

    Raises:
        MissingPackageError: If bitsandbytes is not installed.
    """
    if quantize == "none":
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingPackageError("bitsandbytes", needed_for=f"model.quantize: {quantize}", extra="qlora")
    import_without_network()
    from transformers import BitsAndBytesConfig

    if quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
    )


def import_without_network() -> None:
    """Import bitsandbytes, if it is installed, so that it cannot fetch a CPU kernel from the Hub.

    The package that it does that with is hidden meanwhile. peft imports bitsandbytes by itself, so this comes before peft.
    """
    if "bitsandbytes" in sys.modules or importlib.util.find_spec("bitsandbytes") is None:
        return
    missing = object()
    kernels = sys.modules.get("kernels", missing)
    sys.modules["kernels"] = None  # type: ignore[assignment]  # importing it raises ImportError
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it advises to install that package
    try:
        importlib.import_module("bitsandbytes")
    finally:
        logging.disable(disabled)
        if kernels is missing:
            del sys.modules["kernels"]
        else:
            sys.modules["kernels"] = kernels  # type: ignore[assignment]
