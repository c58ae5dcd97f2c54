"""Quantised layers whose packed weights are plain parameters, so that they can lie in shards.

bitsandbytes' parameters carry their scales with them, and FSDP2 replaces parameters by plain ones, which loses the
scales. Here a layer itself holds the scales, and its weight is a frozen tensor of bytes. Bytes are gathered as they
are: FSDP2 casts floating-point parameters only.

Why: the scales stay whole on every process. With double quantisation they are 0.016 bytes a weight, beside 0.5.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import torch
from torch import nn

from instil.model.quantization import multiply_unpacked

SCALE_BYTES = {"4bit": 0.016, "8bit": 0.01}
"""Bytes of scales per quantised number, for rows of 400 numbers and more."""


def use_plain_packed_weights(model: nn.Module, device: torch.device) -> int:
    """Make the packed weights of all quantised layers plain parameters, in place; return how many there are.

    The layers compute the same. Afterwards bitsandbytes and peft find no scales at the weights, so nothing can be
    merged into them or unpacked.

    Args:
        model: The model, with adapters, just loaded.
        device: Where it will compute; the scales are moved there.
    """
    if "bitsandbytes" not in sys.modules:
        return 0
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    of_4_bits, of_8_bits = _classes()
    count = 0
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.quant_state = module.weight.quant_state
            module.quant_state.to(device)
            # A model may be published with its bytes stored as floating-point numbers, which would be cast.
            packed = module.weight.data.contiguous().view(torch.uint8).reshape(-1, 1)
            module.__class__ = of_4_bits
        elif isinstance(module, Linear8bitLt):
            if module.weight.SCB is not None:
                module.init_8bit_state()
            packed, module.state.CB = module.state.CB, None
            module.state.SCB = module.state.SCB.to(device)
            module.__class__ = of_8_bits
        else:
            continue
        module.weight = nn.Parameter(packed, requires_grad=False)
        count += 1
    return count


@functools.cache
def _classes() -> tuple[type, type]:
    import bitsandbytes
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    class Packed4bit(Linear4bit):  # type: ignore[misc]
        """bitsandbytes' layer of 4 bits with its scales in the layer."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Multiply with the unpacked weight; gradients flow only to `x`."""
            if self.compute_dtype is None:
                self.set_compute_type(x)
            cast = x if self.compute_dtype is None else x.to(self.compute_dtype)
            bias = None if self.bias is None else self.bias.to(cast.dtype)
            output: torch.Tensor = bitsandbytes.matmul_4bit(cast, self.weight, bias=bias, quant_state=self.quant_state)
            return output.to(x.dtype)

        def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
            nn.Linear._save_to_state_dict(self, destination, prefix, keep_vars)
            for name, value in self.quant_state.as_dict(packed=True).items():
                destination[f"{prefix}weight.{name}"] = value

    class Packed8bit(Linear8bitLt):  # type: ignore[misc]
        """bitsandbytes' layer of 8 bits with its scales in the layer, and arithmetic in the type of its input."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Multiply with the unpacked weight; gradients flow only to `x`."""
            return multiply_unpacked(x, self.weight, self.state.SCB, self.bias)

        def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
            nn.Linear._save_to_state_dict(self, destination, prefix, keep_vars)
            destination[f"{prefix}SCB"] = self.state.SCB

    return Packed4bit, Packed8bit
