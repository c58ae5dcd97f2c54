"""Call a function in a fork of the test process, which has imported everything already."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Ended:
    """How a fork ended: its exit code (−9 when killed) and what it printed, errors included."""

    code: int
    output: str


def limit_memory(kind: str, extra: int) -> None:
    """Limit the memory of this process, RLIMIT_AS or RLIMIT_DATA, to what it uses and `extra` bytes."""
    import resource

    used = psutil.Process().memory_info()
    used_bytes = used.vms if kind == "RLIMIT_AS" else used.data
    resource.setrlimit(getattr(resource, kind), (used_bytes + extra, resource.RLIM_INFINITY))


def in_fork(work: Callable[[], object], *, address_space: int | None = None, seconds: float = 300.0) -> Ended:
    """Call `work` in a fork and wait until it ends; an exception ends it with code 1 and its traceback.

    Args:
        work: What the fork does.
        address_space: Bytes that it may map beyond what is mapped already.
        seconds: Time after which it is killed.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as file:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            child = os.fork()
        if not child:
            _work_and_exit(work, file.fileno(), address_space)
        code = exit_code_of(child, seconds=seconds)
        file.seek(0)
        return Ended(code, file.read())


def settle_threads() -> None:
    """Make torch's thread pool in a fork, where there is one thread; call it before anything else there.

    After a fork torch replaces its pool at the next call, and two threads that are first together find none: "Invalid
    thread pool!".
    """
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(torch.get_num_threads())


def _work_and_exit(work: Callable[[], object], descriptor: int, address_space: int | None) -> None:
    status = 1
    try:
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout = sys.stderr = open(descriptor, "w", buffering=1, closefd=False)  # noqa: SIM115 - to the fork's end
        settle_threads()
        if address_space is not None:
            limit_memory("RLIMIT_AS", address_space)
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def exit_code_of(child: int, *, seconds: float = 300.0) -> int:
    """Wait for a fork to end and return its exit code; kill one that does not end in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        number, status = os.waitpid(child, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
