"""Quantised base weights through bitsandbytes: nf4 with double quantisation, or 8-bit.

Questionable on purpose: bitsandbytes is told not to fetch kernels from the network; what it needs must be installed. And its
shortcuts for inference are closed, since a run that draws a sample or measures a held-out loss goes on training afterwards.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import sys
from typing import Any, Literal

import torch
import torch.nn.functional as F

from instil.errors import MissingPackageError

Quantize = Literal["none", "4bit", "8bit"]
PACKED_ROWS, PACKED_COLUMNS = 32, 64
"""Blocks of bitsandbytes' 4-bit layout for CPU inference; a layer that is no multiple of them cannot be laid out so."""


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


def close_shortcuts(model: torch.nn.Module, *, trains: bool) -> None:
    """Make the quantised layers of a model compute the same in training and in evaluation.

    On a CPU the first pass in eval mode lays 4-bit weights out anew for a kernel without gradients, for good: what trains after
    a sample would get wrong gradients. That layout stays off for a model that trains, and for layers that do not fill its
    blocks (which it would stop at). 8-bit layers quantise what goes into them too, apart from outlier columns of the whole
    batch, so a result would depend on the cut; here their weights are unpacked and multiplied, on every device and in both modes.

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
    """``x @ weight.T + bias`` with a frozen 8-bit weight, unpacked for the time of each product; keeps no activation."""

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
        """bitsandbytes' layer with weights in 8 bits and arithmetic in the type of what goes in."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Multiply with the unpacked weights; the gradient flows to `x` alone."""
            if self.weight.SCB is not None:  # peft's DoRA puts a copy without scales in the weight's place
                self.init_8bit_state()
            bias = None if self.bias is None else self.bias.to(x.dtype)
            output: torch.Tensor = _MultiplyUnpacked.apply(x, self.state.CB, self.state.SCB, bias)  # type: ignore[no-untyped-call]
            return output

    return Unpacked8bit


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
