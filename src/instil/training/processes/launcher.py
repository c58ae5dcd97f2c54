"""Launch the processes of ``--parallel.processes N`` on this machine, and wait for them.

The launcher does not train. It opens the store at which the processes meet, on a port that the system chooses, and
puts the recipe into it. The processes' stderr goes into unnamed files. A launcher that is killed therefore leaves no
file behind.

Why: torch starts and watches the processes (`start_processes`), but its elastic agent (`torch.distributed.launcher`)
is not used. As a library, torch 2.13's agent does not meet what a run promises:

- A signal ends it with `SignalException`. It forwards the signal, kills workers that still save after its timeout, and
  never learns whether they finished. A stop request could not end as a saved run with exit code 130, and a second
  Ctrl-C could not kill at once.
- A failure is reported as `ChildFailedError`: exit codes and a table, not the line in which the process names the
  cause.
- It replaces the signal handlers of the process that calls it, and does not restore them.
- Nothing ends its workers if it is killed. `end_with_launcher` is needed in either case, and so is a way to hand over
  the recipe.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from instil.errors import TrainingError
from instil.recipe import Recipe
from instil.training.processes.join import LEFT_ALONE
from instil.training.processes.signals import (
    LAUNCHER,
    STOPPED_BY,
    FirstSignal,
    Stopped,
    StopRequest,
    handled,
    how_ended,
    is_end_by,
)

T = TypeVar("T")
GRACE_SECONDS = 30
"""How long processes may take to end after one of them has failed."""
STORE_KEY = "handed"
"""Where the store holds the recipe."""
PROCESS = "instil.cli.process"
"""The module that each process runs. It trains what `receive` returns."""
POLL_SECONDS = 0.1
"""Seconds between two checks that the processes are alive."""


@dataclass(frozen=True, slots=True)
class Handed:
    """The arguments of `train`, as the launcher hands them to each process.

    Attributes:
        recipe: The recipe. Only the settings that were set are handed over, so that resuming knows which they are.
        resume: Whether to resume the run.
        quiet: Whether to print nothing.
    """

    recipe: Recipe
    resume: bool
    quiet: bool

    def to_json(self) -> str:
        """Return the arguments as JSON."""
        settings = self.recipe.model_dump(mode="json", exclude_unset=True)
        return json.dumps({"settings": settings, "resume": self.resume, "quiet": self.quiet})

    @classmethod
    def from_json(cls, text: str) -> Handed:
        """Read the arguments from JSON."""
        values = json.loads(text)
        return cls(Recipe.from_mapping(values["settings"]), values["resume"], values["quiet"])


def receive() -> Handed:
    """Return what the launcher of this process hands over."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return Handed.from_json(TCPStore(address, port, is_master=False).get(STORE_KEY).decode())


def launch(
    recipe: Recipe,
    *,
    resume: bool,
    quiet: bool = False,
    events: Callable[[], Iterable[T]] = tuple,
    stop: StopRequest | None = None,
) -> Generator[T, None, int | None]:
    """Start the processes of a run on this machine and wait for them to end; yield what they write meanwhile.

    Args:
        recipe: The recipe; its `parallel.processes` is their number.
        resume: Whether to resume the run.
        quiet: Whether they print nothing.
        events: Returns what they have written since its last call.
        stop: Becomes true when the caller asks the run to stop.

    Returns:
        The signal that stopped the run on request, or None.

    Raises:
        TrainingError: With what a process reported, or which one died and how.
        Stopped: If a signal came before there was anything to save, or a second one.
    """
    size = recipe.parallel.processes
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    store.set(STORE_KEY, Handed(recipe, resume, quiet).to_json())
    with contextlib.ExitStack() as stack:
        stderr = {rank: stack.enter_context(tempfile.TemporaryFile()) for rank in range(size)}
        # The handler comes before the processes: a signal that arrives while they start must not be lost.
        stops = Forwarding()
        stack.enter_context(handled(stops))
        context = stack.enter_context(_started(_environments(size, store.port), stderr))
        stops.begin(context)
        result = None
        while result is None:
            result = context.wait(timeout=1, period=POLL_SECONDS)
            yield from events()
            if stop and stops.first is None:
                stops(signal.SIGTERM, None)
        if result.failures:
            raise _reason(result.failures, [lines_of(stderr[rank]) for rank in range(size)], stops.first)
    return stops.first


class Forwarding(FirstSignal):
    """Forwards the first signal to the processes that this one has started."""

    def __init__(self) -> None:
        super().__init__()
        self._context: Any = None

    def begin(self, context: Any) -> None:
        """Set the processes to forward to. A signal that came while they started is forwarded now."""
        self._context = context
        if self.first is not None:
            self.pass_on(self.first)

    def pass_on(self, number: int) -> None:
        """Send it to every process, if they have been started."""
        if self._context is not None:
            for handler in self._context.subprocess_handlers.values():
                handler.proc.send_signal(number)


@contextlib.contextmanager
def _started(environments: Mapping[int, dict[str, str]], stderr: Mapping[int, BinaryIO]) -> Iterator[Any]:
    """Start the processes. None is left when the context ends; after a second signal they are killed."""
    from torch.distributed.elastic.multiprocessing import start_processes

    # Its warnings repeat, over several lines, what the error raised here says.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    with ThreadPoolExecutor(1) as thread:  # on the main thread, torch would replace our signal handlers
        context: Any = thread.submit(
            start_processes,
            "instil",
            sys.executable,
            args=dict.fromkeys(environments, ("-m", PROCESS)),
            envs=dict(environments),
            logs_specs=_logs_into(stderr),
            start_method="spawn",
        ).result()
    try:
        yield context
    except KeyboardInterrupt:
        context.close(death_sig=signal.SIGKILL)
        raise
    finally:
        context.close(timeout=GRACE_SECONDS)
        for handler in context.subprocess_handlers.values():  # torch leaves these files open
            for file in (handler._stdout, handler._stderr):
                if file is not None:
                    file.close()


def _logs_into(stderr: Mapping[int, BinaryIO]) -> Any:
    """Return where output goes: stderr into files that are open here, stdout of all but the first process nowhere."""
    from torch.distributed.elastic.multiprocessing.api import LogsDest, LogsSpecs

    class OpenFiles(LogsSpecs):
        """Paths of files without a name. torch opens them in this process, where the descriptors are valid."""

        root_log_dir = os.devnull

        def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
            """Return the paths."""
            return LogsDest(
                stdouts={rank: "" if rank == 0 else os.devnull for rank in envs},
                stderrs={rank: f"/dev/fd/{stderr[rank].fileno()}" for rank in envs},
                error_files=dict.fromkeys(envs, os.devnull),
            )

    return OpenFiles()


def _environments(size: int, port: int) -> dict[int, dict[str, str]]:
    shared = {
        **environment_of_child(port, size=size, threads=os.environ.get("OMP_NUM_THREADS")),
        "MASTER_ADDR": "127.0.0.1",
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
    }
    return {rank: {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)}


def environment_of_child(port: int, *, size: int, threads: str | None) -> dict[str, str]:
    """Return the variables that any process of a run gets from the one that starts it.

    Args:
        port: Port of the store with the run's arguments.
        size: Processes on this machine.
        threads: Value of OMP_NUM_THREADS where the run was started; None for an equal share of the cores.
    """
    return {
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": str(True),  # the store is there already
        "OMP_NUM_THREADS": threads or str(max(1, (os.cpu_count() or 1) // size)),
        LAUNCHER: str(os.getpid()),
    }


def cause_in(lines: Sequence[str]) -> str | None:
    """Return the cause that a process reported itself, from the lines of its stderr.

    One that was left alone, or stopped, names no cause.
    """
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    causes = [error for error in errors if LEFT_ALONE not in error and not error.startswith(STOPPED_BY)]
    return causes[-1] if causes else None


def _reason(failures: Mapping[int, Any], stderr: list[list[str]], stop_signal: int | None) -> BaseException:
    """Return why the processes ended.

    Args:
        failures: The processes that failed, by rank.
        stderr: The lines of each process.
        stop_signal: The signal that asked for a stop, or None.
    """
    for lines in stderr:
        if (cause := cause_in(lines)) is not None:
            return TrainingError(cause)
    # Then the requested stop, if it ended a process before there was anything to save.
    if stop_signal is not None and any(is_end_by(stop_signal, failure.exitcode) for failure in failures.values()):
        return Stopped(stop_signal)
    # Else a process died without a word: the one that ended first.
    first = min(failures.values(), key=lambda failure: failure.timestamp)
    last = f" ({stderr[first.local_rank][-1]})" if stderr[first.local_rank] else ""
    return TrainingError(
        f"process {first.local_rank} of {len(stderr)} {how_ended(first.exitcode)}{last}. The others were stopped. "
        "Checkpoints that were written are intact. Continue with --resume."
    )


def lines_of(file: BinaryIO) -> list[str]:
    """Return the lines of a file from its start, without blank ones."""
    file.seek(0)
    return [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
