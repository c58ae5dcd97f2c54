"""Gated feed-forward layers that keep a quarter less memory for the backward pass.

transformers writes ``down(act(gate(x)) * up(x))`` as separate operations, and autograd keeps the gate, its activation,
the other branch and their product. Here activation and product are one autograd function, which computes the activation
again in the backward pass. The values are the same to the bit, and on a CPU the time is the same (docs/how-it-works/notes/model.md).

Why: a module's `forward` is replaced, and values decide which modules, not names (as in `norms`). A layer is replaced
only if its own code, with small linear layers in it, computes the same numbers as this module.

Shapes: the last dimension is F, the width between the two projections; the others are tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

NARROW, WIDE = 8, 24
"""Widths of the small linear layers that replace a layer's own while its code is compared."""


@dataclass(frozen=True)
class Activation:
    """An elementwise function and its gradient.

    Attributes:
        value: Maps the gate to its activation.
        gradient: Maps the gradient of the activation, and the gate, to the gradient of the gate.
    """

    value: Callable[[torch.Tensor], torch.Tensor]
    gradient: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _gelu(approximate: str) -> Activation:
    return Activation(
        lambda gate: F.gelu(gate, approximate=approximate),
        lambda incoming, gate: torch.ops.aten.gelu_backward(incoming, gate, approximate=approximate),
    )


ACTIVATIONS = (Activation(F.silu, torch.ops.aten.silu_backward), _gelu("tanh"), _gelu("none"))


def slim_gates(model: nn.Module) -> int:
    """Make the gated feed-forward layers of a model keep less for the backward pass, in place.

    Args:
        model: Any model, on any device, `meta` included; with or without adapters.

    Returns:
        The number of layers that were replaced. The others keep their own code.
    """
    replaced = 0
    for module in model.modules():
        form = _form_of(module)
        activation = None if form is None else _activation_of(module, form)
        if form is not None and activation is not None:
            module.instil_activation = activation  # type: ignore[assignment]
            module.forward = MethodType(form.forward, module)
            replaced += 1
    return replaced


def _two_projections(self: Any, states: torch.Tensor) -> torch.Tensor:
    """Compute a layer with one projection for the gate and another for the other branch (Llama)."""
    gate, other = self.gate_proj(states), self.up_proj(states)
    gated = _Gated.apply(gate, other, self.instil_activation)  # type: ignore[no-untyped-call]
    output: torch.Tensor = self.down_proj(gated)
    return output


def _one_projection(self: Any, states: torch.Tensor) -> torch.Tensor:
    """Compute a layer with one projection for both (Phi-3)."""
    gate, other = self.gate_up_proj(states).chunk(2, dim=-1)
    gated = _Gated.apply(gate, other, self.instil_activation)  # type: ignore[no-untyped-call]
    output: torch.Tensor = self.down_proj(gated)
    return output


@dataclass(frozen=True)
class GateForm:
    """A way to write a gated layer.

    Attributes:
        forward: The arithmetic that replaces a module's own.
        small: For the comparison: shapes of small linear layers by the name of the projection that they replace.
    """

    forward: Callable[[Any, torch.Tensor], torch.Tensor]
    small: Mapping[str, tuple[int, int]]


FORMS = (
    GateForm(_two_projections, {"gate_proj": (WIDE, NARROW), "up_proj": (WIDE, NARROW), "down_proj": (NARROW, WIDE)}),
    GateForm(_one_projection, {"gate_up_proj": (2 * WIDE, NARROW), "down_proj": (NARROW, WIDE)}),
)


def _form_of(module: nn.Module) -> GateForm | None:
    """Return the form that fits a module's projections; None if none does, or its forward is already replaced."""
    names = {name for name, child in module.named_children() if any(True for _ in child.parameters())}
    own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
    if own or "forward" in vars(module):
        return None
    return next((form for form in FORMS if names == set(form.small)), None)


def _activation_of(module: nn.Module, form: GateForm) -> Activation | None:
    """Return the activation with which a form equals a module's own code on small layers, in fp32 and bf16, or None."""
    small = copy.copy(module)
    small._modules = dict(module._modules)
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(5, NARROW, generator=generator) * 3
    for name, shape in form.small.items():
        linear = nn.Linear(shape[1], shape[0], bias=False, device="cpu")
        linear.weight = nn.Parameter(torch.randn(shape, generator=generator), requires_grad=False)
        setattr(small, name, linear)
    for activation in ACTIVATIONS:
        small.instil_activation = activation  # type: ignore[assignment]
        if all(_agree(small, form, states, dtype) for dtype in (torch.float32, torch.bfloat16)):
            return activation
    return None


def _agree(small: nn.Module, form: GateForm, states: torch.Tensor, dtype: torch.dtype) -> bool:
    small, states = small.to(dtype), states.to(dtype)
    try:
        theirs = type(small).forward(small, states)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):
        return False  # its forward needs more than states
    return isinstance(theirs, torch.Tensor) and torch.equal(theirs, form.forward(small, states))


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, other: torch.Tensor, activation: Activation) -> torch.Tensor:
        ctx.save_for_backward(gate, other)
        ctx.activation = activation
        return activation.value(gate) * other

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        gate, other = ctx.saved_tensors
        gate_gradient = ctx.activation.gradient(gradients[0] * other, gate)
        return gate_gradient, gradients[0] * ctx.activation.value(gate), None
