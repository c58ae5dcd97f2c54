"""Many processes: start them, join them, shard the weights over them.

Around the loop, which only knows `Ranks`. ``--parallel.processes N`` starts N processes with torch elastic's own process handling;
``torchrun -m instil train recipe.yaml`` works as well, on several machines too. Questionable on purpose: the launcher looks after
the processes itself, so that Ctrl-C reaches each of them once, and a process that dies ends the run with its reason.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from instil.errors import InstilError, RecipeError, TrainingError
from instil.model.head import take_apart
from instil.model.loading import choose_device
from instil.recipe import Recipe
from instil.training.precision import Precision, trained_type
from instil.training.ranks import Ranks

GRACE_SECONDS = 30
LAST_WORDS_SECONDS = 5
"""How long a process whose sum was broken off waits before it ends: the launcher stops all at the first end, and who caused it must be heard."""
LEFT_ALONE = "another process has ended"
"""What a process says that was left in the middle of a sum: never the reason, which the other one says."""
FOREVER = timedelta(days=30)
LAUNCHER = "INSTIL_LAUNCHER"
"""Variable that tells a process the number of its launcher."""
LOOKS_EVERY = 0.2
"""Seconds between two looks whether the launcher is still there."""


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


def end_with_launcher() -> None:
    """End this process when its launcher is killed, as one process would end that is killed; it would else go on, and hold the run folder's lock."""
    launcher = os.environ.get(LAUNCHER)
    if launcher is None and "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    parent = os.getppid() if launcher is None else int(launcher)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOKS_EVERY)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def is_left_alone(error: RuntimeError) -> bool:
    """Say whether an error is what torch raises in the middle of a sum where another process is gone; gloo's has no class of its own."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def last_line(error: RuntimeError) -> str:
    """Give the words of torch's error without the place in its source."""
    return str(error).strip().splitlines()[0].rpartition("] ")[2].rstrip(".")


def launch(recipe: Recipe, *, resume: bool) -> int | None:
    """Start the processes of a run on this machine and wait for them.

    Args:
        recipe: The recipe; `parallel.processes` says how many.
        resume: Whether the run goes on.

    Returns:
        The signal that stopped the run on request, or None.

    Raises:
        InstilError: What a process reported, on one line.
        TrainingError: If a process died; the message says which, and how.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std, start_processes

    # Its warnings say what the error raised here says, over several lines.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    size = recipe.parallel.processes
    asked: list[int] = []
    with tempfile.TemporaryDirectory(prefix="instil-") as scratch:
        path = Path(scratch) / "recipe.yaml"
        recipe.save(path)
        words = ("-m", "instil", "train", str(path), *(("--resume",) if resume else ()))
        redirects = {rank: Std.ERR if rank == 0 else Std.ALL for rank in range(size)}
        context = start_processes(
            "instil",
            sys.executable,
            args=dict.fromkeys(range(size), words),
            envs=_environments(size),
            logs_specs=DefaultLogsSpecs(log_dir=scratch, redirects=redirects),
            start_method="spawn",
        )
        with _forwarding(context, asked), contextlib.ExitStack() as stack:
            stack.callback(_end, context)
            result = None
            while result is None:
                result = context.wait(timeout=1)
            if result.failures:
                context.close(death_sig=signal.SIGTERM, timeout=GRACE_SECONDS)
                raise _reason(result, size)
    return asked[0] if asked else None


def _end(context: Any) -> None:
    """End processes that still run, and close the files that their output went to."""
    context.close()
    for handler in context.subprocess_handlers.values():
        for file in (handler._stdout, handler._stderr):
            if file is not None:
                file.close()


def _environments(size: int) -> dict[int, dict[str, str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // size))
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "OMP_NUM_THREADS": threads,
        LAUNCHER: str(os.getpid()),
    }
    return {rank: {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)}


@contextlib.contextmanager
def _forwarding(context: Any, asked: list[int]) -> Iterator[None]:
    """Hand SIGINT and SIGTERM on to every process, the first of which says so: one asks for a stop, a second kills."""

    def forward(number: int, frame: object) -> None:
        if asked:
            context.close(death_sig=signal.SIGKILL)
            raise KeyboardInterrupt
        asked.append(number)
        for process in context.pids().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _reason(result: Any, size: int) -> InstilError:
    """Say why the processes ended: what one of them reported, else how the first one died.

    Whoever reported may still be on its way out when the others, whom it left in the middle of a sum, are gone.
    """
    first = min(result.failures.values(), key=lambda failure: failure.timestamp)
    for rank in range(size):
        said = _last_lines(result.stderrs.get(rank, ""))
        errors = [
            line.removeprefix("error: ") for line in said if line.startswith("error: ") and LEFT_ALONE not in line
        ]
        if errors:
            return TrainingError(errors[-1])
    how = (
        f"was killed by {signal.Signals(-first.exitcode).name}"
        if first.exitcode < 0
        else f"ended with exit code {first.exitcode}"
    )
    said = _last_lines(result.stderrs.get(first.local_rank, ""))
    last = f" ({said[-1]})" if said else ""
    return TrainingError(
        f"process {first.local_rank} of {size} {how}{last}; the others were stopped and the last checkpoint is intact; "
        "go on with --resume"
    )


def _last_lines(path: str) -> list[str]:
    if not path or not Path(path).exists():
        return []
    return [line.strip() for line in Path(path).read_text(errors="replace").splitlines() if line.strip()]


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


def blocks_of(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Give the blocks of a model: the longest list of like modules in its decoder."""
    lists = [list(part) for part in take_apart(model).decoder.modules() if isinstance(part, torch.nn.ModuleList)]
    return max(lists, key=len) if lists else []
