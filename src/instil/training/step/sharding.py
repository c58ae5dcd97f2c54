"""Lay the weights of a model in shards over the processes (FSDP2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from instil.model.packed_layers import use_plain_packed_weights
from instil.model.parts import blocks_of
from instil.model.sharded_vocabulary.layers import can_shard_vocabulary, shard_vocabulary
from instil.training.step.precision import Precision, trained_type

T = TypeVar("T")


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
    computes with. Embedding and head, where they are plain tables, are in no unit: they are never whole anywhere (see
    `model.sharded_vocabulary`). Gradients are summed, not averaged, because the loss is already divided by the trained
    weight of the step. Trained weights are stored in fp32 (in bf16 with `pure_bf16`) and cast when they are gathered.
    Frozen weights are stored in the dtype of the arithmetic, quantised ones packed.

    Args:
        loss: The `TokenLoss`. Of weights on `meta` each process gets its rows without content; see `training.shards`.
        precision: How the run computes.
        device: Where this process computes.
        offload: Whether shards, their gradients and the optimizer's state stay in the machine's memory. The CPU moves
            the weights then.
    """
    # Slow to import.
    from torch.distributed import fsdp
    from torch.distributed.device_mesh import init_device_mesh

    use_plain_packed_weights(loss, device)
    # FSDP2 requires one dtype for all trained tensors of a unit, adapters included.
    for parameter in loss.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(
                trained_type(precision) if parameter.requires_grad else precision.compute
            )
    compute = precision.compute if precision.compute != torch.float32 else None
    policy = fsdp.MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32 if compute else None)
    place = fsdp.CPUOffloadPolicy(pin_memory=device.type == "cuda") if offload else fsdp.OffloadPolicy()
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for block in blocks_of(loss.model):
        _give_room(block, device)
        fsdp.fully_shard(block, mesh=mesh, mp_policy=policy, offload_policy=place)
    tables: set[nn.Parameter] = set()
    # FSDP's offloading keeps weights off the device; these rows would stay there.
    if can_shard_vocabulary(loss.model) and not offload:
        tables = shard_vocabulary(loss.model, mesh, compute=precision.compute, device=device)
    _give_room(loss, device)
    # The loss comes last: its unit takes the parameters that no block has taken. Its inputs are ids and the tokens'
    # fp32 weights, which must not be rounded.
    root = replace(policy, cast_forward_inputs=False)
    fsdp.fully_shard(loss, mesh=mesh, mp_policy=root, offload_policy=place, ignored_params=tables)
    fsdp.register_fsdp_forward_method(loss, "inside")
    for module in loss.modules():
        if isinstance(module, fsdp.FSDPModule):
            module.set_gradient_divide_factor(1.0)
            # gloo has no premultiplied sum, which a divide factor would use otherwise.
            module.set_force_sum_reduction_for_comms(True)


def compute_inside(loss: Any, compute: Callable[[], T]) -> T:
    """Return what a function computes with a sharded model, outside of a step; every process calls this.

    Args:
        loss: The sharded `TokenLoss`.
        compute: Called in its forward pass, where weights are gathered as for a step.
    """
    result: T = loss.inside(compute)
    loss.reshard()  # FSDP keeps the outermost unit whole for a backward pass, which does not follow
    return result


def _give_room(module: nn.Module, device: torch.device) -> None:
    """Replace the parameters on `meta` by ones of the same size on a device, in place.

    Why: nothing is written to them, so the system gives them no memory. FSDP copies this process's rows, and frees them.
    """
    replace_bare(module, lambda parameter: torch.empty_like(parameter, device=device))


def replace_bare(module: nn.Module, make: Callable[[nn.Parameter], torch.Tensor]) -> dict[int, nn.Parameter]:
    """Replace the parameters on `meta`, in place; shared ones stay shared.

    Args:
        module: The module, with all that it holds.
        make: Returns the content that takes the place of a parameter.

    Returns:
        The parameters on `meta` by the id of what stands for them.
    """
    made: dict[int, nn.Parameter] = {}
    bare: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None and parameter.is_meta:
                if id(parameter) not in made:
                    made[id(parameter)] = nn.Parameter(make(parameter), requires_grad=parameter.requires_grad)
                    bare[id(made[id(parameter)])] = parameter
                part._parameters[name] = made[id(parameter)]
    return bare
