"""Join the process group of a run, and leave it.

The loop knows only `Ranks`. `launcher` starts the processes, or torchrun does, on several machines too.

Why: a process whose collective operation was interrupted waits before it ends. The launcher stops all processes when
the first one ends, and the process that knows the cause has to be heard.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist

from instil.errors import RecipeError, TrainingError
from instil.model.attention.sequence import SequenceGroup
from instil.model.loading import choose_device
from instil.recipe import ParallelSettings
from instil.training.processes.ranks import Ranks
from instil.training.processes.signals import LAUNCHER, end_with_launcher
from instil.units import counted

LAST_WORDS_SECONDS = 5
"""How long a process waits before it ends after another process has left it in the middle of a collective operation."""
LEFT_ALONE = "another process has ended"
"""Marks the error of a process that was left alone. It is never the cause, which the other process reports."""
FOREVER = timedelta(days=30)


def is_joined() -> bool:
    """Return True if this process was started as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def is_launched() -> bool:
    """Return True if this process must not launch others: it is one of several, or the only one of a launcher of ours."""
    return is_joined() or LAUNCHER in os.environ


@contextlib.contextmanager
def join_ranks(parallel: ParallelSettings, *, device_name: str) -> Iterator[Ranks]:
    """Join the other processes of a run, if there are any, and leave them at the end.

    A process group that is there already, such as the one of Ray Train, is used and kept.

    Args:
        parallel: The recipe's `parallel`.
        device_name: The recipe's `device`. On CUDA each process takes the GPU of its local rank.

    Raises:
        RecipeError: If the recipe requests another number of processes than were started, one that they do not divide
            into groups, or offloads what the process group of another launcher cannot sum.
        TrainingError: If another process ended in the middle of a collective operation.
    """
    if not is_joined():
        check_sequence(parallel, 1)
        yield Ranks(0, 1, choose_device(device_name))
        return
    if LAUNCHER not in os.environ:  # a process of our own launcher watches it from its first line on
        end_with_launcher()
    rank, size, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if not parallel.allows(size):
        raise RecipeError(
            f"parallel.processes: {parallel.processes}, but {size} processes were started. "
            "Leave it empty under torchrun."
        )
    check_sequence(parallel, size)
    device = choose_device(device_name)
    if device.type == "cuda":
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    if backend == "nccl" and parallel.offload == "all":  # the norm of gradients is summed where they are
        backend = "cpu:gloo,cuda:nccl"
    timeout = timedelta(minutes=parallel.timeout_minutes)
    is_ours = not dist.is_initialized()
    if not is_ours and "cpu:" in backend and "cpu:" not in dist.get_backend_config():
        raise RecipeError(
            f"parallel.offload: all, but the process group that is there already ({dist.get_backend_config()}) sums "
            "nothing on CPUs. Expected cpu:gloo,cuda:nccl. Set parallel.offload: optimizer."
        )
    if is_ours:
        dist.init_process_group(backend, timeout=timeout, device_id=device if device.type == "cuda" else None)
    patient = dist.new_group(backend="gloo", timeout=FOREVER)
    sequence = sequence_group(rank, size, parallel.sequence, timeout=timeout)
    try:
        yield Ranks(rank, size, device, patient, sequence)
    except RuntimeError as error:
        time.sleep(LAST_WORDS_SECONDS)
        if not is_left_alone(error):
            raise
        raise TrainingError(
            f"process {rank} of {size}: {LEFT_ALONE} ({last_line(error)}). "
            "The cause is in that process's output or exit code. Checkpoints that were written are intact. "
            "Continue with --resume."
        ) from None
    finally:
        if is_ours:
            dist.destroy_process_group()
        else:
            for group in (patient, *([] if sequence is None else [sequence.group])):
                dist.destroy_process_group(group)


def check_sequence(parallel: ParallelSettings, size: int) -> None:
    """Refuse a number of processes that groups of `parallel.sequence` do not fill.

    Raises:
        RecipeError: With both numbers.
    """
    if size % parallel.sequence:
        raise RecipeError(
            f"parallel.sequence: {parallel.sequence}, but the run has {counted(size, 'process', 'processes')}. "
            f"Expected a multiple of {parallel.sequence}. Set parallel.processes to one, or parallel.sequence: 1."
        )


def sequence_group(rank: int, size: int, members: int, *, timeout: timedelta | None = None) -> SequenceGroup | None:
    """Return the group of neighbouring processes that share micro-batches; None if each has its own.

    Every process makes all groups, in the same order, as torch requires. Neighbours are on one machine where its
    processes fill whole groups.
    """
    if members == 1:
        return None
    groups = [dist.new_group(list(range(first, first + members)), timeout=timeout) for first in range(0, size, members)]
    return SequenceGroup(rank % members, members, groups[rank // members])


def is_left_alone(error: RuntimeError) -> bool:
    """Return True for the error that torch raises in a collective operation when another process is gone.

    gloo's error has no class of its own.
    """
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def last_line(error: RuntimeError) -> str:
    """Return the message of torch's error without its source position and its advice."""
    return str(error).strip().splitlines()[0].rpartition("] ")[2].partition(". This is typically")[0].rstrip(".")
