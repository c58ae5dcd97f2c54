"""Starts the processes of ``--parallel.processes N`` on this machine, with torch elastic's own process handling, and waits for them.

The launcher trains nothing. It holds the store at which the processes meet, on a port that the system picks as it is opened, and hands
the recipe over in it; what they write to stderr goes into files without a name. So a launcher that is killed leaves no file behind.
Questionable on purpose: torch's agent, which torchrun is made of, is not used. It prints its own account of a failure, and gives no reason.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import FrameType
from typing import Any, BinaryIO

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from instil.errors import TrainingError
from instil.recipe import Recipe
from instil.training.processes.join import LEFT_ALONE
from instil.training.processes.signals import LAUNCHER, STOPPED_BY, Stopped, handled, is_second

GRACE_SECONDS = 30
HANDED = "handed"
PROCESS = "instil.cli.process"
"""The module that each process runs: it trains what `receive` gives."""
LOOKS_EVERY = 0.1
"""Seconds between two looks whether a process has ended."""


@dataclass(frozen=True, slots=True)
class Handed:
    """What the launcher hands over to each process: what it was asked for itself.

    Attributes:
        recipe: The recipe, with the settings that were set, and no others.
        resume: Whether the run goes on.
        quiet: Whether to print nothing.
    """

    recipe: Recipe
    resume: bool
    quiet: bool

    def to_json(self) -> str:
        """Give it as text."""
        settings = self.recipe.model_dump(mode="json", exclude_unset=True)
        return json.dumps({"settings": settings, "resume": self.resume, "quiet": self.quiet})

    @classmethod
    def from_json(cls, text: str) -> Handed:
        """Read it again."""
        given = json.loads(text)
        return cls(Recipe.from_mapping(given["settings"]), given["resume"], given["quiet"])


def receive() -> Handed:
    """Give what the launcher of this process hands over."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return Handed.from_json(TCPStore(address, port, is_master=False).get(HANDED).decode())


def launch(recipe: Recipe, *, resume: bool, quiet: bool = False) -> int | None:
    """Start the processes of a run on this machine and wait for them.

    Args:
        recipe: The recipe; `parallel.processes` says how many.
        resume: Whether the run goes on.
        quiet: Have them print nothing.

    Returns:
        The signal that stopped the run on request, or None.

    Raises:
        TrainingError: What a process reported, or if one died: which, and how.
        Stopped: If a signal came before there was anything to save, or a second one.
    """
    size = recipe.parallel.processes
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    store.set(HANDED, Handed(recipe, resume, quiet).to_json())
    with contextlib.ExitStack() as stack:
        said = {rank: stack.enter_context(tempfile.TemporaryFile()) for rank in range(size)}
        stops = Forwarding()
        stack.enter_context(handled(stops))
        context = stack.enter_context(_started(_environments(size, store.port), said))
        stops.begin(context)
        result = None
        while result is None:
            result = context.wait(timeout=1, period=LOOKS_EVERY)
        if result.failures:
            raise _reason(result.failures, [_lines(said[rank]) for rank in range(size)], stops.first)
    return stops.first


class Forwarding:
    """Hands SIGINT and SIGTERM on to the processes: the first asks for a stop, and a second is no longer waited for.

    Attributes:
        first: The signal that asked, or None.
    """

    def __init__(self) -> None:
        self.first: int | None = None
        self._context: Any = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        if self.first is None:
            self.first = number
            self._send()
        elif is_second(number, self.first):
            raise Stopped(number)

    def begin(self, context: Any) -> None:
        """Name the processes; a signal that came while they were being started is handed on now."""
        self._context = context
        if self.first is not None:
            self._send()

    def _send(self) -> None:
        if self._context is not None and self.first is not None:
            for handler in self._context.subprocess_handlers.values():
                handler.proc.send_signal(self.first)


@contextlib.contextmanager
def _started(environments: Mapping[int, dict[str, str]], said: Mapping[int, BinaryIO]) -> Iterator[Any]:
    """Start the processes; at the end none is left, killed where a second signal was the end."""
    from torch.distributed.elastic.multiprocessing import start_processes

    # Its warnings say what the error raised here says, over several lines.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    with ThreadPoolExecutor(1) as other:  # started from the main thread, they would take all signals of this process
        context: Any = other.submit(
            start_processes,
            "instil",
            sys.executable,
            args=dict.fromkeys(environments, ("-m", PROCESS)),
            envs=dict(environments),
            logs_specs=_logs_into(said),
            start_method="spawn",
        ).result()
    try:
        yield context
    except KeyboardInterrupt:
        context.close(death_sig=signal.SIGKILL)
        raise
    finally:
        context.close(timeout=GRACE_SECONDS)
        for handler in context.subprocess_handlers.values():  # torch leaves them open
            for file in (handler._stdout, handler._stderr):
                if file is not None:
                    file.close()


def _logs_into(said: Mapping[int, BinaryIO]) -> Any:
    """Say where output goes: stderr into files that are open here, stdout of all but the first process nowhere."""
    from torch.distributed.elastic.multiprocessing.api import LogsDest, LogsSpecs

    class Open(LogsSpecs):
        """Names for files that have none: torch opens them in this process, where their numbers hold."""

        root_log_dir = os.devnull

        def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
            """Give the names."""
            return LogsDest(
                stdouts={rank: "" if rank == 0 else os.devnull for rank in envs},
                stderrs={rank: f"/dev/fd/{said[rank].fileno()}" for rank in envs},
                error_files=dict.fromkeys(envs, os.devnull),
            )

    return Open()


def _environments(size: int, port: int) -> dict[int, dict[str, str]]:
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // size))
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": str(True),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "OMP_NUM_THREADS": threads,
        LAUNCHER: str(os.getpid()),
    }
    return {rank: {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)}


def _reason(failures: Mapping[int, Any], said: list[list[str]], asked: int | None) -> BaseException:
    """Say why the processes ended: what one of them reported, else the signal that was asked for, else how the first one died."""
    for lines in said:
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        reasons = [error for error in errors if LEFT_ALONE not in error and not error.startswith(STOPPED_BY)]
        if reasons:
            return TrainingError(reasons[-1])
    if asked is not None and any(failure.exitcode in (-asked, 128 + asked) for failure in failures.values()):
        return Stopped(asked)
    first = min(failures.values(), key=lambda failure: failure.timestamp)
    how = (
        f"was killed by {signal.Signals(-first.exitcode).name}"
        if first.exitcode < 0
        else f"ended with exit code {first.exitcode}"
    )
    last = f" ({said[first.local_rank][-1]})" if said[first.local_rank] else ""
    return TrainingError(
        f"process {first.local_rank} of {len(said)} {how}{last}; the others were stopped and the last checkpoint is intact; "
        "go on with --resume"
    )


def _lines(file: BinaryIO) -> list[str]:
    file.seek(0)
    return [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
