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
from dataclasses import dataclass, field
from functools import cache
from typing import IO

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


@cache
def import_what_commands_import() -> None:
    """Import once, here, what a first `instil train` imports: four seconds, which each fork would take for itself."""
    import accelerate  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import peft  # noqa: F401
    import torch._dynamo
    import torch._subclasses.fake_tensor  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    import instil.cli.train
    import instil.exporting.export
    import instil.generation.engine
    import instil.training.run  # noqa: F401


def in_fork(work: Callable[[], object], *, address_space: int | None = None, seconds: float = 300.0) -> Ended:
    """Call `work` in a fork and wait until it ends; an exception ends it with code 1 and its traceback.

    Args:
        work: What the fork does.
        address_space: Bytes that it may map beyond what is mapped already.
        seconds: Time after which it is killed.
    """
    running = start_fork(work, address_space=address_space)
    output, _ = running.communicate(timeout=seconds)
    return Ended(running.returncode, output)


@dataclass
class Running:
    """A fork that works, with the names of `subprocess.Popen`; it is a process of its own, as that is."""

    pid: int
    out: IO[str]
    err: IO[str] | None
    returncode: int = field(default=0, init=False)

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def communicate(self, *, timeout: float) -> tuple[str, str]:
        """Wait for its end and return what it, and what it started, printed and said of errors."""
        self.returncode = exit_code_of(self.pid, seconds=timeout)
        said = []
        for file in (self.out, self.err):
            if file is not None:
                with file:
                    file.seek(0)
                    said.append(file.read())
        return said[0], said[1] if self.err is not None else ""


def start_fork(
    work: Callable[[], object],
    *,
    separate_errors: bool = False,
    address_space: int | None = None,
    **environment: str,
) -> Running:
    """Start `work` in a fork; it ends with the status of SystemExit, or of any other exception with 1.

    Args:
        work: What the fork does.
        separate_errors: Keep stderr apart from stdout.
        address_space: Bytes that it may map beyond what is mapped already.
        environment: Variables to set for it and what it starts.
    """
    out, err = (tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") for _ in range(2))  # noqa: SIM115
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_what_commands_import()
        child = os.fork()
    if not child:
        os.environ.update(environment)
        _work_and_exit(work, out.fileno(), err.fileno() if separate_errors else out.fileno(), address_space)
    if not separate_errors:
        err.close()
    return Running(child, out, err if separate_errors else None)


def settle_threads() -> None:
    """Make torch's thread pool in a fork, where there is one thread; call it before anything else there.

    After a fork torch replaces its pool at the next call, and two threads that are first together find none: "Invalid
    thread pool!".
    """
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(torch.get_num_threads())


def _work_and_exit(work: Callable[[], object], out: int, err: int, address_space: int | None) -> None:
    status = 1
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 - to the fork's end
        if err != out:
            sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        settle_threads()
        if address_space is not None:
            limit_memory("RLIMIT_AS", address_space)
        work()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
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
