"""Quantised base weights through bitsandbytes: nf4 with double quantisation, or 8-bit.

Why: bitsandbytes' shortcuts for inference are switched off. A run that generates a sample or measures a held-out loss
continues to train afterwards, and the shortcuts would change its gradients.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import math
import sys
from typing import Any, Literal

import torch
import torch.nn.functional as F

from instil.errors import MissingPackageError
from instil.model.library_noise import quiet_transformers
from instil.model.underlying import underlying

Quantize = Literal["none", "4bit", "8bit"]
PACKED_ROWS, PACKED_COLUMNS = 32, 64
"""Blocks of bitsandbytes' 4-bit layout for CPU inference; layers of other sizes than multiples cannot use it."""


def quantization_config(quantize: Quantize, compute_dtype: torch.dtype) -> Any:
    """Return transformers' configuration of a quantised model, or None for `none`.

    Args:
        quantize: `4bit` is nf4 with double quantisation, as in QLoRA.
        compute_dtype: Type that weights are unpacked to for arithmetic.

    Raises:
        MissingPackageError: If bitsandbytes is not installed.
    """
    if quantize == "none":
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingPackageError("bitsandbytes", needed_for=f"model.quantize: {quantize}", extra="qlora")
    import_bitsandbytes()
    from transformers import BitsAndBytesConfig

    if quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
    )


def close_shortcuts(model: torch.nn.Module, *, trains: bool) -> None:
    """Make the quantised layers of a model compute the same in training and in evaluation.

    - 4-bit: on a CPU the first pass in eval mode changes the layout of the weights permanently, for a kernel without
      gradients. Training after a sample would then get wrong gradients. The layout is switched off for a model that
      trains, and for layers that do not fill its blocks, with which it fails.
    - 8-bit: the layers also quantise their input, except for outlier columns of the whole batch, so a result would
      depend on the micro-batch. Here their weights are unpacked and multiplied, on every device and in both modes.

    Args:
        model: transformers' model, just loaded.
        trains: Whether adapters on it will train.
    """
    if "bitsandbytes" not in sys.modules:
        return
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    for module in model.modules():
        if isinstance(module, Linear4bit):
            rows, columns = module.out_features, module.in_features
            if trains or rows % PACKED_ROWS or columns % PACKED_COLUMNS:
                module.support_avx512bf16_for_cpu = False
        elif type(module) is Linear8bitLt:
            module.__class__ = _unpacked_8bit()


class _MultiplyUnpacked(torch.autograd.Function):
    """``x @ weight.T + bias`` with a frozen 8-bit weight that is unpacked for each product; no activation is kept."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, packed: torch.Tensor, scales: torch.Tensor, bias: Any) -> torch.Tensor:
        ctx.save_for_backward(packed, scales)
        return F.linear(x, _unpack(packed, scales, x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *incoming: torch.Tensor) -> Any:
        packed, scales = ctx.saved_tensors
        return torch.matmul(incoming[0], _unpack(packed, scales, incoming[0].dtype)), None, None, None


def _unpack(packed: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return packed.to(dtype).mul_(scales.unsqueeze(1) * (1.0 / 127.0))


@functools.cache
def _unpacked_8bit() -> type:
    from bitsandbytes.nn import Linear8bitLt

    class Unpacked8bit(Linear8bitLt):  # type: ignore[misc]
        """bitsandbytes' layer with 8-bit weights and arithmetic in the type of its input."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Multiply with the unpacked weights; gradients flow only to `x`."""
            if self.weight.SCB is not None:  # peft's DoRA puts a copy without scales in place of the weight
                self.init_8bit_state()
            return multiply_unpacked(x, self.state.CB, self.state.SCB, self.bias)

    return Unpacked8bit


def multiply_unpacked(
    x: torch.Tensor, packed: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Return the product with a frozen 8-bit weight; gradients flow only to `x`.

    Args:
        x: Inputs [..., I].
        packed: Weight [O, I] of int8.
        scales: Largest value of each row [O].
        bias: [O], or None.
    """
    apply: Any = _MultiplyUnpacked.apply
    output: torch.Tensor = apply(x, packed, scales, None if bias is None else bias.to(x.dtype))
    return output


def stored_quantization(config: Any) -> str | None:
    """Return how the weights of a model folder are quantised: `4bit` or `8bit` by bitsandbytes, another method, or None.

    Args:
        config: transformers' config of the folder.
    """
    stored = getattr(config, "quantization_config", None)
    if stored is None:
        return None
    values = stored if isinstance(stored, dict) else stored.to_dict()
    if values.get("load_in_4bit"):
        return "4bit"
    return "8bit" if values.get("load_in_8bit") else str(values.get("quant_method", "unknown"))


def unpack_weights(model: Any, dtype: torch.dtype) -> Any:
    """Return a quantised model with its weights as ordinary tensors, which an adapter can be merged into.

    The values are those that training multiplied with, rounded to `dtype`.
    """
    with quiet_transformers():
        model = model.dequantize(dtype=dtype)
    for parameter in model.parameters():  # buffers keep their type: rotary frequencies are never rounded
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    for name in ("is_loaded_in_4bit", "is_loaded_in_8bit"):
        setattr(model, name, False)
    model._weight_conversions = None  # saving would reverse the packing; the model's own conversions are found anew
    return model


def num_weights(parameter: torch.Tensor) -> int:
    """Return how many weights a parameter holds: bitsandbytes packs two weights of 4 bits into one number."""
    packing = getattr(parameter, "quant_state", None)
    return parameter.numel() if packing is None else math.prod(packing.shape)


def is_quantized(model: Any) -> bool:
    """Return whether the weights of a model, or of the base inside peft's wrapper, are quantised."""
    inner = underlying(model)
    return bool(getattr(inner, "is_loaded_in_4bit", False) or getattr(inner, "is_loaded_in_8bit", False))


def import_bitsandbytes() -> None:
    """Import bitsandbytes, if it is installed, in such a way that it cannot download a CPU kernel from the Hub.

    The package that downloads kernels is hidden during the import. Call this before the first import of peft, which
    imports bitsandbytes itself.
    """
    if "bitsandbytes" in sys.modules or importlib.util.find_spec("bitsandbytes") is None:
        return
    missing = object()
    kernels = sys.modules.get("kernels", missing)
    sys.modules["kernels"] = None  # type: ignore[assignment]  # importing it raises ImportError
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it would advise to install that package
    try:
        importlib.import_module("bitsandbytes")
    finally:
        logging.disable(disabled)
        if kernels is missing:
            del sys.modules["kernels"]
        else:
            sys.modules["kernels"] = kernels  # type: ignore[assignment]
