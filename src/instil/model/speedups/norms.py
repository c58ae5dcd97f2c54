"""Root-mean-square norms that pass over memory few times, for CPUs.

transformers writes this norm as eight operations, which autograd differentiates one by one. On a CPU the backward pass
then takes several times as long as the arithmetic needs (docs/how-it-works/notes/model.md). Here it is one autograd function, which
keeps its input and one number for each token.

Why: a module's `forward` is replaced, and values decide which modules, not names. A norm is replaced only if one of the
three published ways of rounding gives the numbers of its own code, on random states and weights.

Shapes: the last dimension, D, is normalised; the others are tokens.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import nn

SAME = 1e-5
"""Largest difference in fp32 between two ways of computing the same norm, for numbers around 1."""
ROUNDED_OTHERWISE = 0.02
"""Largest fraction of bf16 results that may differ.

Two ways that round in the same places still differ where an fp32 sum lies on the edge between two bf16 numbers.
"""


@dataclass(frozen=True)
class NormForm:
    """How an architecture applies the weight.

    Attributes:
        adds_one: Whether 1 is added to the weight (Gemma stores the weight minus 1).
        rounds_first: Whether normalised numbers are rounded to the states' type before the weight (Llama) or after it
            (Gemma, OLMo 2).
    """

    adds_one: bool
    rounds_first: bool


FORMS = (
    NormForm(adds_one=False, rounds_first=True),
    NormForm(adds_one=True, rounds_first=False),
    NormForm(adds_one=False, rounds_first=False),
)


def speed_up_norms(model: nn.Module) -> int:
    """Replace the arithmetic of a model's root-mean-square norms, in place.

    Args:
        model: Any model, on any device, `meta` included.

    Returns:
        The number of norms that were replaced. The others keep their own code.
    """
    forms: dict[type[nn.Module], NormForm | None] = {}
    replaced = 0
    for module in model.modules():
        eps = _eps_of(module)
        if eps is None:
            continue
        kind = type(module)
        if kind not in forms:
            forms[kind] = _form_of(module, eps)
        form = forms[kind]
        if form is not None:
            module.instil_norm = (form, eps)  # type: ignore[assignment]
            module.forward = MethodType(_forward, module)
            replaced += 1
    return replaced


def _eps_of(module: nn.Module) -> float | None:
    """Return the epsilon of a module that looks like a root-mean-square norm with only a weight; None for any other."""
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    names = [name for name, _ in module.named_parameters()]
    alone = not any(module.children()) and not any(True for _ in module.buffers()) and names == ["weight"]
    if not alone or not isinstance(eps, float) or "forward" in vars(module):
        return None
    takes = list(inspect.signature(type(module).forward).parameters.values())[1:]
    weight = module.weight
    return eps if len(takes) == 1 and isinstance(weight, torch.Tensor) and weight.ndim == 1 else None


def _form_of(module: nn.Module, eps: float) -> NormForm | None:
    """Return the form that gives the numbers of a module's own code, in fp32 and in bf16; None if none does."""
    generator = torch.Generator().manual_seed(0)
    width = int(module.weight.shape[0])  # type: ignore[index]
    weight, states = (torch.randn(size, generator=generator) for size in ((width,), (3, 32, width)))
    states = states * torch.tensor([1e-3, 1.0, 30.0])[:, None, None]
    own = copy.deepcopy(module).to_empty(device="cpu").requires_grad_(False)
    for form in FORMS:
        if all(_agree(own, form, eps, states.to(dtype), weight.to(dtype)) for dtype in (torch.float32, torch.bfloat16)):
            return form
    return None


def _agree(own: nn.Module, form: NormForm, eps: float, states: torch.Tensor, weight: torch.Tensor) -> bool:
    own.weight = nn.Parameter(weight, requires_grad=False)
    try:
        theirs = own(states)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):
        return False  # its forward needs more than states
    ours = _normalise(states, weight, form, eps)[0]
    if not isinstance(theirs, torch.Tensor) or theirs.shape != ours.shape or theirs.dtype != ours.dtype:
        return False
    if states.dtype == torch.float32:
        return bool(torch.allclose(ours, theirs, rtol=SAME, atol=SAME))
    return bool((ours != theirs).float().mean() <= ROUNDED_OTHERWISE)


def _forward(self: Any, states: torch.Tensor) -> torch.Tensor:
    if states.dtype != self.weight.dtype or states.dtype == torch.float64:
        own: torch.Tensor = type(self).forward(self, states)
        return own
    output: torch.Tensor = _RMSNorm.apply(states, self.weight, *self.instil_norm)  # type: ignore[no-untyped-call]
    return output


def _normalise(
    states: torch.Tensor, weight: torch.Tensor, form: NormForm, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the norm's output and the fp32 factor [..., 1] of each token."""
    wide = states.float()
    lengths = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    factors = lengths.square_().div_(states.shape[-1]).add_(eps).rsqrt_()
    normalised = wide * factors
    if form.rounds_first:
        return normalised.to(states.dtype).mul_(weight), factors
    return normalised.mul_(_scale(weight, form)).to(states.dtype), factors


def _scale(weight: torch.Tensor, form: NormForm) -> torch.Tensor:
    return weight.float() + 1.0 if form.adds_one else weight.float()


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, weight: torch.Tensor, form: NormForm, eps: float) -> torch.Tensor:
        output, factors = _normalise(states, weight, form, eps)
        ctx.save_for_backward(states, weight, factors)
        ctx.form = form
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        states, weight, factors = ctx.saved_tensors
        width = states.shape[-1]
        normalised = states.float() * factors
        incoming = gradients[0].float()
        product = (incoming * normalised).reshape(-1, width)
        weight_gradient = product.sum(0).to(weight.dtype) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, weight_gradient, None, None
        scale = _scale(weight, ctx.form)
        means = torch.mv(product, scale).div_(width).view(factors.shape)
        del product  # the next tensor can reuse its memory
        state_gradient = incoming * scale
        state_gradient.addcmul_(normalised, means, value=-1).mul_(factors)
        return state_gradient.to(states.dtype), weight_gradient, None, None
