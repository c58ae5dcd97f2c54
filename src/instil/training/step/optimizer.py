"""Build the optimizer: which tensor is moved how, by its kind.

Why: a run has a list of optimizers, not one, because Muon leaves embeddings, head and vectors to AdamW.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch.distributed.tensor import DTensor

from instil.errors import RecipeError
from instil.model.host_memory import HostState, host_state_of
from instil.training.step.eight_bit import adamw_8bit
from instil.training.step.tensor_kinds import DECAYED, TensorKind

OptimizerName = Literal["adamw", "adamw_8bit", "muon", "adafactor"]
BUCKET = 32 * 2**20
"""Numbers whose state is on the device at one time, where it is kept in the machine's memory; a larger tensor is alone."""
FUSED_ON = frozenset({"cpu", "cuda"})
"""Devices on which AdamW moves all weights in one kernel; on others it moves them one by one."""


def build_optimizers(
    weights: Mapping[str, torch.Tensor],
    kinds: Mapping[str, TensorKind],
    *,
    name: OptimizerName = "adamw",
    lr: float,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    momentum: float = 0.95,
    state_on_host: bool = False,
) -> list[torch.optim.Optimizer]:
    """Build the optimizers of a run.

    Args:
        weights: The tensors to move, by name.
        kinds: The kind of each of them.
        name: Which optimizer.
        lr: Peak learning rate; the loop sets the rate of each step.
        weight_decay: Decoupled decay of matrices and head.
        betas: Decay rates of AdamW's moments.
        eps: AdamW's epsilon.
        momentum: Muon's momentum.
        state_on_host: Whether to keep the state in the machine's memory between steps.

    Returns:
        One optimizer. With Muon a second one (AdamW), if other tensors than matrices train. With `state_on_host` as
        many for each bucket of weights.

    Raises:
        MissingPackageError: If the optimizer's package is not installed.
        RecipeError: If nothing trains, or nothing that Muon moves.
    """
    if not weights:
        raise RecipeError("training.freeze: no parameter is left to train. Expected at least one. Freeze fewer.")
    if name == "muon" and not any(_muon_moves(kinds[key], weight) for key, weight in weights.items()):
        raise RecipeError(
            "optimizer.name: muon moves the matrices inside the network, and none of them trains. "
            "Set optimizer.name: adamw, or freeze less."
        )
    adamw = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
    buckets = _buckets(weights) if state_on_host else [weights]
    optimizers = [
        optimizer
        for bucket in buckets
        for optimizer in _build(bucket, kinds, name=name, adamw=adamw, momentum=momentum)
    ]
    if state_on_host:
        for optimizer in optimizers:
            HostState(optimizer)
    return optimizers


def _buckets(weights: Mapping[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    buckets: list[dict[str, torch.Tensor]] = []
    room = 0
    for name, weight in weights.items():
        numbers = (weight.to_local() if isinstance(weight, DTensor) else weight).numel()
        if not buckets or numbers > room:
            buckets.append({})
            room = BUCKET
        buckets[-1][name] = weight
        room -= numbers
    return buckets


def _build(
    weights: Mapping[str, torch.Tensor],
    kinds: Mapping[str, TensorKind],
    *,
    name: OptimizerName,
    adamw: Mapping[str, Any],
    momentum: float,
) -> list[torch.optim.Optimizer]:
    lr, weight_decay = adamw["lr"], adamw["weight_decay"]
    if name == "muon":
        inside = {key: weight for key, weight in weights.items() if _muon_moves(kinds[key], weight)}
        rest = {key: weight for key, weight in weights.items() if key not in inside}
        optimizers: list[torch.optim.Optimizer] = []
        if inside:
            optimizers.append(
                torch.optim.Muon(
                    list(inside.values()),
                    lr=lr,
                    weight_decay=weight_decay,
                    momentum=momentum,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
        return [*optimizers, _adamw(rest, kinds, adamw)] if rest else optimizers
    if name == "adamw":
        return [_adamw(weights, kinds, adamw)]
    groups = _groups(weights, kinds, weight_decay)
    if name == "adafactor":
        return [torch.optim.Adafactor(groups, lr=lr, weight_decay=weight_decay)]
    return [adamw_8bit(groups, adamw)]


def left_to_adamw(
    weights: Mapping[str, torch.Tensor], kinds: Mapping[str, TensorKind], *, name: OptimizerName
) -> list[str]:
    """Return the tensors inside the network that Muon does not move, as they are not two-dimensional.

    These are stacked experts of a mixture and convolutions. Empty for other optimizers.
    """
    if name != "muon":
        return []
    return [key for key, weight in weights.items() if kinds[key] == "matrix" and not _muon_moves(kinds[key], weight)]


def _muon_moves(kind: TensorKind, weight: torch.Tensor) -> bool:
    return kind == "matrix" and weight.ndim == 2


def _groups(
    weights: Mapping[str, torch.Tensor], kinds: Mapping[str, TensorKind], weight_decay: float
) -> list[dict[str, Any]]:
    decayed = [weight for key, weight in weights.items() if kinds[key] in DECAYED]
    undecayed = [weight for key, weight in weights.items() if kinds[key] not in DECAYED]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": undecayed, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _adamw(
    weights: Mapping[str, torch.Tensor], kinds: Mapping[str, TensorKind], settings: Mapping[str, Any]
) -> torch.optim.Optimizer:
    devices = {weight.device.type for weight in weights.values()}
    fused = devices <= FUSED_ON
    return torch.optim.AdamW(_groups(weights, kinds, settings["weight_decay"]), fused=fused, **settings)


def set_learning_rate(optimizers: Sequence[torch.optim.Optimizer], rate: float) -> None:
    """Set the learning rate of a step in every optimizer."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate


def read_state(
    optimizers: Sequence[torch.optim.Optimizer], weights: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Split the optimizers' state into named tensors and named numbers.

    Returns:
        Tensors and numbers, each under ``<weight name>::<state name>``.
    """
    names = {id(weight): name for name, weight in weights.items()}
    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, float] = {}
    for optimizer in optimizers:
        for weight, state in optimizer.state.items():
            for key, value in state.items():
                where = f"{names[id(weight)]}::{key}"
                if isinstance(value, torch.Tensor):
                    # bitsandbytes shares its tables between weights, and safetensors refuses shared memory.
                    tensors[where] = value.clone() if key.startswith("qmap") else value
                else:
                    numbers[where] = value
    return tensors, numbers


def write_state(
    optimizers: Sequence[torch.optim.Optimizer],
    weights: Mapping[str, torch.Tensor],
    *,
    tensors: Mapping[str, torch.Tensor],
    numbers: Mapping[str, float],
) -> None:
    """Load a state from `read_state` into fresh optimizers over these weights; what is of others is passed over."""
    names = {id(weight): name for name, weight in weights.items()}
    parts: dict[str, dict[str, Any]] = {}
    for where, value in (*tensors.items(), *numbers.items()):
        name, _, key = where.rpartition("::")
        if name not in weights:
            continue
        parts.setdefault(name, {})[key] = value
    for optimizer in optimizers:
        ordered = [weight for group in optimizer.param_groups for weight in group["params"]]
        state = {
            number: parts[names[id(weight)]] for number, weight in enumerate(ordered) if names[id(weight)] in parts
        }
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        on_host = host_state_of(optimizer)
        if on_host is not None:
            on_host.store(optimizer)
