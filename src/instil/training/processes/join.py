"""Many processes: join them, shard the weights over them.

Around the loop, which only knows `Ranks`. `launching` starts them, or torchrun does, on several machines too. Questionable on purpose:
a process that was left in the middle of a sum waits before it ends, so that the one which knows why is heard first.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from instil.errors import RecipeError, TrainingError
from instil.model.loading import choose_device
from instil.model.parts import blocks_of
from instil.recipe import Recipe
from instil.training.processes.ranks import Ranks
from instil.training.processes.signals import LAUNCHER, end_with_launcher
from instil.training.step.precision import Precision, trained_type

LAST_WORDS_SECONDS = 5
"""How long a process whose sum was broken off waits before it ends: the launcher stops all at the first end, and who caused it must be heard."""
LEFT_ALONE = "another process has ended"
"""What a process says that was left in the middle of a sum: never the reason, which the other one says."""
FOREVER = timedelta(days=30)


def is_joined() -> bool:
    """Say whether this process was started as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


@contextlib.contextmanager
def join_ranks(recipe: Recipe) -> Iterator[Ranks]:
    """Join the other processes of a run, where there are any, and leave them at the end.

    Raises:
        RecipeError: If the recipe asks for other processes than were started.
    """
    if not is_joined():
        yield Ranks(0, 1, choose_device(recipe.device))
        return
    if LAUNCHER not in os.environ:  # else it has been looked after since this process began
        end_with_launcher()
    rank, size, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if recipe.parallel.processes not in (1, size):
        raise RecipeError(
            f"parallel.processes: {recipe.parallel.processes}, but {size} processes were started; "
            "leave it empty under torchrun"
        )
    device = choose_device(recipe.device)
    if device.type == "cuda":
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    limit = timedelta(minutes=recipe.parallel.timeout_minutes)
    dist.init_process_group(backend, timeout=limit, device_id=device if device.type == "cuda" else None)
    try:
        yield Ranks(rank, size, device, dist.new_group(backend="gloo", timeout=FOREVER))
    except RuntimeError as error:
        time.sleep(LAST_WORDS_SECONDS)
        if not is_left_alone(error):
            raise
        raise TrainingError(
            f"process {rank} of {size}: {LEFT_ALONE} ({last_line(error)}); what it said, or how it ended, is the reason; "
            "the last checkpoint is intact; go on with --resume"
        ) from None
    finally:
        dist.destroy_process_group()


def is_left_alone(error: RuntimeError) -> bool:
    """Say whether an error is what torch raises in the middle of a sum where another process is gone; gloo's has no class of its own."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def last_line(error: RuntimeError) -> str:
    """Give the words of torch's error without the place in its source, and without its advice."""
    return str(error).strip().splitlines()[0].rpartition("] ")[2].partition(". This is typically")[0].rstrip(".")


def why_no_shards(recipe: Recipe, precision: Precision) -> str | None:
    """Say what of a recipe is not built for sharded weights, and what to set instead; None where all is."""
    for wrong, what, instead in (
        (precision.scaled, "training.precision: fp16", "bf16 or fp32"),
        (precision.name == "pure_bf16", "training.precision: pure_bf16", "bf16 or fp32"),
        (recipe.optimizer.name != "adamw", f"optimizer.name: {recipe.optimizer.name}", "adamw"),
        (recipe.model.quantize != "none", f"model.quantize: {recipe.model.quantize}", "none"),
    ):
        if wrong:
            return f"{what}: not with sharded weights; set {instead}, or parallel.mode: replicated"
    return None


def shard(loss: Any, precision: Precision) -> None:
    """Lay the weights of a loss and its model in shards over the processes, in place (FSDP2).

    Each block is a unit, the rest another one, so that a process holds whole only what it computes with. Gradients are added
    up, not averaged: the loss is divided once, by the trained weight of the step. What trains is kept in fp32 and cast as it is
    gathered (`pure_bf16` keeps it in bf16); what is frozen is kept in the type of the arithmetic.

    Args:
        loss: The `TokenLoss`.
        precision: How the run computes.
    """
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    for parameter in loss.parameters():
        if parameter.is_floating_point():  # a unit wants its trained tensors, adapters too, in one type
            parameter.data = parameter.data.to(
                trained_type(precision) if parameter.requires_grad else precision.compute
            )
    small = precision.compute if precision.compute != torch.float32 else None
    policy = MixedPrecisionPolicy(param_dtype=small, reduce_dtype=torch.float32 if small else None)
    for block in blocks_of(loss.model):
        fully_shard(block, mp_policy=policy)
    fully_shard(loss, mp_policy=policy)
    for module in loss.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            # gloo has no premultiplied sum, which a factor asks for otherwise.
            module.set_force_sum_reduction_for_comms(True)
