"""The dtype of the arithmetic, and the tensors that the optimizer moves.

Between the model and the optimizer. With `bf16` and `fp16` the model computes in half precision while the optimizer
moves fp32 master copies. Gradients are summed in fp32, micro-batch by micro-batch.

Why: no autocast. The model's weights are stored in the dtype of the arithmetic and refreshed from the masters after
each update. Nothing is cast twice, and the residual stream moves half the bytes (measured in docs/how-it-works/notes/training.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from instil.errors import RecipeError
from instil.model.loading import choose_precision as resolve_precision

PrecisionName = Literal["fp32", "bf16", "pure_bf16", "fp16"]
FIRST_LOSS_SCALE = 2.0**16


@dataclass(frozen=True, slots=True)
class Precision:
    """How a run computes.

    Attributes:
        name: As in the recipe, with `auto` resolved.
        compute: Dtype of weights and activations in the forward and backward pass.
        masters: Whether the optimizer moves fp32 copies of the weights.
        scaled: Whether the loss is scaled so that small gradients survive fp16.
    """

    name: PrecisionName
    compute: torch.dtype
    masters: bool
    scaled: bool

    @property
    def words(self) -> str:
        """The precision in words, for the run card."""
        return {
            "fp32": "fp32",
            "bf16": "bf16 arithmetic, fp32 master weights",
            "pure_bf16": "bf16 weights and optimizer",
            "fp16": "fp16 arithmetic with loss scaling, fp32 master weights",
        }[self.name]


def choose_precision(name: str, device: torch.device) -> Precision:
    """Resolve `auto`, and refuse what the device does not support.

    Args:
        name: `auto`, `fp32`, `bf16`, `pure_bf16` or `fp16`.
        device: Where the run computes.

    Raises:
        RecipeError: If the device cannot compute in it; the message names what it can.
    """
    name = resolve_precision(name, device)  # type: ignore[arg-type]
    if name == "fp16" and device.type == "cpu":
        raise RecipeError(
            "training.precision: found 'fp16' on a CPU, which has no fast fp16 arithmetic. "
            "Expected fp32, bf16 or pure_bf16. Set one of them, or a CUDA device."
        )
    if name in ("bf16", "pure_bf16") and device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
        raise RecipeError(
            f"training.precision: found {name!r} on a GPU without bf16 arithmetic. "
            "Expected fp32 or fp16. Set training.precision: fp16."
        )
    return {
        "fp32": Precision("fp32", torch.float32, masters=False, scaled=False),
        "bf16": Precision("bf16", torch.bfloat16, masters=True, scaled=False),
        "pure_bf16": Precision("pure_bf16", torch.bfloat16, masters=False, scaled=False),
        "fp16": Precision("fp16", torch.float16, masters=True, scaled=True),
    }[name]


def trained_type(precision: Precision) -> torch.dtype:
    """Return the dtype in which the optimizer moves weights."""
    return torch.float32 if precision.masters else precision.compute


class Weights:
    """The trained tensors by name, as the optimizer sees them.

    With master weights each trained parameter has an fp32 copy. A parameter's gradient is added to the copy's as soon
    as it is complete. Half-precision gradients are therefore never summed, and do not stay in memory. Without master
    weights the optimizer moves the parameters themselves.

    Example:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> weights = Weights(layer, choose_precision("bf16", torch.device("cpu")))
        >>> for _ in range(2): layer(torch.ones(1, 2, dtype=torch.bfloat16)).sum().backward()
        >>> weights.by_name["weight"].grad
        tensor([[2., 2.]])
    """

    def __init__(self, model: nn.Module, precision: Precision, *, sharded: bool = False) -> None:
        """Collect the trained tensors of a model, and convert its parameters to the dtype of the arithmetic, in place.

        Buffers keep their dtype (rotary frequencies must stay fp32), and so do the modules that the architecture keeps
        in fp32. Shards keep theirs, which `sharding.shard` has set: FSDP2 casts what it gathers.

        Args:
            model: The model, after `shard` if it is sharded.
            precision: How the run computes.
            sharded: Whether the weights lie in shards.
        """
        self.by_name: dict[str, torch.Tensor] = {}
        self._copies: list[tuple[nn.Parameter, torch.Tensor]] = []
        if sharded:
            self.by_name = {name: value for name, value in model.named_parameters() if value.requires_grad}
            return
        kept = _kept_in_fp32(model)
        # Four cases: trained or frozen, in the dtype of the arithmetic or kept in fp32.
        for name, parameter in model.named_parameters():
            small = parameter.is_floating_point() and not any(part in name for part in kept)
            if parameter.requires_grad and precision.masters and small:
                master = parameter.detach().to(torch.float32, copy=True)
                self.by_name[name] = master
                self._copies.append((parameter, master))
                parameter.register_post_accumulate_grad_hook(_mover(master))  # type: ignore[no-untyped-call]
            # No masters, or kept in fp32: the optimizer moves the parameter itself.
            elif parameter.requires_grad:
                self.by_name[name] = parameter
            # After the master was copied from it, so that the master keeps the full precision.
            if small and parameter.dtype != precision.compute:
                parameter.data = parameter.data.to(precision.compute)

    def gradients(self) -> list[torch.Tensor]:
        """Return the gradient of every weight, in the order of `by_name`.

        A weight that no example reached (an expert that was never chosen) gets zeros. It is then treated the same for
        any micro-batches.
        """
        gradients = []
        for weight in self.by_name.values():
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            gradients.append(weight.grad)
        return gradients

    def clear_gradients(self) -> None:
        """Drop all gradients, incomplete ones too."""
        for weight in self.by_name.values():
            weight.grad = None
        for parameter, _ in self._copies:
            parameter.grad = None

    @torch.no_grad()
    def refresh_model(self) -> None:
        """Copy the masters into the model, rounded to its dtype. Call it after every change of the masters."""
        for parameter, master in self._copies:
            parameter.copy_(master)


def _kept_in_fp32(model: nn.Module) -> set[str]:
    names: set[str] = set()
    for module in model.modules():
        for attribute in ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict"):
            names |= set(getattr(module, attribute, None) or ())
    return names


def _mover(master: torch.Tensor) -> Callable[[torch.Tensor], None]:
    def move(parameter: torch.Tensor) -> None:
        if parameter.grad is None:
            return
        if master.grad is None:
            master.grad = parameter.grad.to(master.dtype)
        else:
            master.grad.add_(parameter.grad)
        parameter.grad = None

    return move
