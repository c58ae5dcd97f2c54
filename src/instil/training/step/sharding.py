"""Lay the weights of a model in shards over the processes (FSDP2)."""

from __future__ import annotations

from typing import Any

import torch

from instil.model.packed_layers import use_plain_packed_weights
from instil.model.parts import blocks_of
from instil.training.step.precision import Precision, trained_type


def why_no_shards(precision: Precision, *, optimizer: str, quantize: str, dora: bool = False) -> str | None:
    """Return what is not supported with sharded weights and what to set instead, or None if everything is.

    Args:
        precision: How the run computes.
        optimizer: `optimizer.name` of the recipe.
        quantize: `model.quantize` of the recipe.
        dora: `adapter.dora` of the recipe. It unpacks quantised weights, which needs their scales at the weights.
    """
    for unsupported, setting, instead in (
        (precision.scaled, "training.precision: fp16", "bf16, pure_bf16 or fp32"),
        (optimizer not in ("adamw", "adamw_8bit"), f"optimizer.name: {optimizer}", "adamw or adamw_8bit"),
        (dora and quantize != "none", f"adapter.dora with model.quantize: {quantize}", "adapter.dora: false"),
    ):
        if unsupported:
            return f"{setting}: not with sharded weights; set {instead}, or parallel.mode: replicated"
    return None


def shard(loss: Any, precision: Precision, *, device: torch.device, offload: bool = False) -> None:
    """Lay the weights of a loss and its model in shards over the processes, in place.

    Each block is one FSDP unit and the rest is another. A process therefore holds in full only the unit that it
    computes with. Gradients are summed, not averaged, because the loss is already divided by the trained weight of the
    step. Trained weights are stored in fp32 (in bf16 with `pure_bf16`) and cast when they are gathered. Frozen weights
    are stored in the dtype of the arithmetic, quantised ones packed.

    Args:
        loss: The `TokenLoss`.
        precision: How the run computes.
        device: Where this process computes.
        offload: Whether shards, their gradients and the optimizer's state stay in the machine's memory. The CPU moves
            the weights then.
    """
    # Slow to import.
    from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard

    use_plain_packed_weights(loss, device)
    # FSDP2 requires one dtype for all trained tensors of a unit, adapters included.
    for parameter in loss.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(
                trained_type(precision) if parameter.requires_grad else precision.compute
            )
    compute = precision.compute if precision.compute != torch.float32 else None
    policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32 if compute else None)
    place = CPUOffloadPolicy(pin_memory=device.type == "cuda") if offload else OffloadPolicy()
    for block in blocks_of(loss.model):
        fully_shard(block, mp_policy=policy, offload_policy=place)
    # The loss comes last: its unit takes the parameters that no block has taken.
    fully_shard(loss, mp_policy=policy, offload_policy=place)
    for module in loss.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            # gloo has no premultiplied sum, which a divide factor would use otherwise.
            module.set_force_sum_reduction_for_comms(True)
