"""One worker of Ray Train: it starts the process that trains, watches it, and reports how it ended.

Ray imports this module on every node. Whether a run is tried again is decided here: a process that was killed is
nobody's fault, and an error that a process names itself would come again.

Why: the run is a child process. Ray runs its function in a thread, where Python handles no signals, so a stop request
could not end as a saved run.
"""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from instil.training.processes.join import LAST_WORDS_SECONDS
from instil.training.processes.launcher import PROCESS, STORE_KEY, Handed, cause_in, environment_of_child, lines_of
from instil.training.processes.signals import how_ended, is_end_by

POLL_SECONDS = 0.1
ASK_SECONDS = 0.5
"""Seconds between two questions whether the run is to stop."""
RESIZED = f"{'cluster':<10} it has room for another number of processes, so the run saves and starts again"
_children: list[subprocess.Popen[bytes]] = []
"""The child of this worker, while there is one."""
_LOCKED = "is writing to it"
"""Part of the error of a run whose folder is locked. After a restart the process before may still be ending."""


class Mailbox:
    """What the workers and the process that launched them tell each other. One Ray actor, beside that process."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._starts = 0
        self._signal: int | None = None
        self._cause: str | None = None
        self._stopped = False

    def begin(self) -> int:
        """Count a start of the run, and return the number of starts. Called by the first worker."""
        self._starts += 1
        return self._starts

    def say(self, line: str) -> None:
        """Keep a line that the run printed."""
        self._lines.append(line)

    def take(self) -> list[str]:
        """Return the lines since the last call."""
        lines, self._lines = self._lines, []
        return lines

    def ask_to_stop(self, number: int) -> None:
        """Ask all processes to stop, as a signal would."""
        self._signal = number

    def asked(self) -> int | None:
        """Return the signal that asks to stop, or None."""
        return self._signal

    def fail(self, cause: str) -> None:
        """Keep the cause of the run's end, the first one that is named."""
        self._cause = self._cause or cause

    def cause(self) -> str | None:
        """Return the cause of the run's end, or None."""
        return self._cause

    def note_stopped(self) -> None:
        """Keep that a process was stopped before there was anything to save."""
        self._stopped = True

    def was_stopped(self) -> bool:
        """Return whether a process was stopped before there was anything to save."""
        return self._stopped


def save_before_resize(workers: Any, box: Any) -> None:
    """Have a run that still goes on save and end, before Ray Train ends its workers. Called beside its controller.

    Ray Train ends them for another number of workers, as when a node comes back. A run that has failed or ended is
    left alone.

    Why: a child ends with its worker, at once, and what it did since its latest checkpoint would be lost.

    Args:
        workers: Ray Train's worker group.
        box: The actor.
    """
    import ray

    status = workers.get_latest_poll_status()
    if status is None or status.finished or status.errors:
        return
    ray.get(box.say.remote(RESIZED))
    workers.execute(save_and_end)


def save_and_end() -> None:
    """Ask this worker's child to save and end, and wait for it. Ray calls this in every worker at the same time."""
    for child in _children:
        child.send_signal(signal.SIGTERM)
    for child in _children:
        child.wait()


class ProcessDiedError(Exception):
    """A process of the run died without naming a cause, so the run may go on from its latest checkpoint."""


@dataclass(frozen=True, slots=True)
class Post:
    """What each worker needs.

    Attributes:
        handed: The arguments of the run, as JSON.
        folder: Folder in which the run was started; relative paths begin there.
        relative: The relative paths of the recipe, for people.
        threads: Value of OMP_NUM_THREADS where the run was started, or None.
        address: Address of the cluster, for a preparation on it.
        mailbox: The actor.
    """

    handed: str
    folder: str
    relative: tuple[str, ...]
    threads: str | None
    address: str
    mailbox: Any


def run_worker(post: Post) -> None:
    """Train in a child process until it ends. Ray Train calls this in every worker, after a failure once more.

    Raises:
        ProcessDiedError: If the child was killed, or was left alone by one that was.
    """
    import ray

    box = post.mailbox
    if ray.get(box.cause.remote()) is not None or ray.get(box.was_stopped.remote()):
        return
    rank = int(os.environ["RANK"])
    folder = _folder_on_this_node(post)
    if folder is None:
        ray.get(box.fail.remote(_no_folder(post)))
        return
    store, starts = _meet(post, box)
    with tempfile.TemporaryFile() as stderr:
        child = subprocess.Popen(
            [sys.executable, "-m", PROCESS],
            cwd=folder,
            env=_environment(post, store.port),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
            stderr=stderr,
        )
        _children[:] = [child]
        printed = _passing_on(child.stdout, box)
        stop_signal = _wait(child, box)
        printed.join()
        _report_end(child.returncode, lines_of(stderr), box, rank=rank, stop_signal=stop_signal, starts=starts)


def _meet(post: Post, box: Any) -> tuple[TCPStore, int]:
    """Return the store at which the run's processes meet, with the run's arguments in it, and the number of starts.

    The first worker opens it. A run that was started before is resumed.

    Why: it is not the store of Ray's process group, where the processes would find the addresses of Ray's workers.
    """
    import ray

    address = os.environ["MASTER_ADDR"]
    if os.environ["RANK"] == "0":
        starts = int(ray.get(box.begin.remote()))
        handed = Handed.from_json(post.handed)
        store = TCPStore(address, 0, is_master=True, wait_for_workers=False)
        store.set(STORE_KEY, Handed(handed.recipe, handed.resume or starts > 1, handed.quiet).to_json())
        _tell_all([store.port, starts])
        return store, starts
    port, starts = _tell_all([0, 0])
    return TCPStore(address, port, is_master=False), starts


def _tell_all(values: list[int]) -> list[int]:
    """Return the first worker's values in every worker, by Ray's process group."""
    if int(os.environ["WORLD_SIZE"]) > 1:
        dist.broadcast_object_list(values, src=0)
    return values


def _environment(post: Post, port: int) -> dict[str, str]:
    size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return {
        **os.environ,
        **environment_of_child(port, size=size, threads=post.threads),
        "RAY_ADDRESS": post.address,
    }


def _passing_on(stdout: IO[bytes] | None, box: Any) -> threading.Thread:
    """Return a running thread that sends each line of the child to the process that launched the run."""

    def pass_on() -> None:
        for line in stdout or ():
            box.say.remote(line.decode(errors="replace").rstrip("\n"))

    thread = threading.Thread(target=pass_on, daemon=True)
    thread.start()
    return thread


def _wait(child: subprocess.Popen[bytes], box: Any) -> int | None:
    """Wait for the child; pass on a request to stop, and return its signal."""
    import ray

    stop_signal = None
    next_question = 0.0
    while child.poll() is None:
        if stop_signal is None and time.monotonic() >= next_question:
            stop_signal = ray.get(box.asked.remote())
            next_question = time.monotonic() + ASK_SECONDS
            if stop_signal is not None:
                child.send_signal(stop_signal)
        time.sleep(POLL_SECONDS)
    return stop_signal


def _report_end(code: int, lines: list[str], box: Any, *, rank: int, stop_signal: int | None, starts: int) -> None:
    """Tell the mailbox how the child ended.

    Raises:
        ProcessDiedError: If the run may go on.
    """
    import ray

    if code == 0:
        return
    cause = cause_in(lines)
    if cause is not None and not (starts > 1 and _LOCKED in cause):
        ray.get(box.fail.remote(cause))
        return
    if is_end_by(stop_signal, code):
        ray.get(box.note_stopped.remote())
        return
    how = f"process {rank} on {platform.node()} {how_ended(code)}"
    if code < 0:
        raise ProcessDiedError(how)
    # A process that was left alone waits before it ends, so one that knows the cause has named it by now.
    time.sleep(LAST_WORDS_SECONDS / 5)
    if ray.get(box.cause.remote()) is not None:
        return
    last = f" ({lines[-1]})" if lines else ""
    if code != 1:
        raise ProcessDiedError(f"{how}{last}")
    ray.get(box.fail.remote(f"{how}{last}"))


def _folder_on_this_node(post: Post) -> str | None:
    """Return the folder of the child: that of the start, or any if no path depends on it; None if it is needed."""
    if Path(post.folder).is_dir():
        return post.folder
    return None if post.relative else tempfile.gettempdir()


def _no_folder(post: Post) -> str:
    return (
        f"{post.relative[0]}: a relative path, and the node {platform.node()} has no folder {post.folder}, in which the "
        "run was started. Expected the same files on every node. Use absolute paths on a disk that all nodes share, or "
        "start the run in a folder there."
    )


def find_interface() -> None:
    """Set the network interface of gloo and NCCL to the one of the node's address, unless they are set.

    Why: gloo resolves the name of the machine, which is loopback on many, and then reaches no other node.
    """
    import ray

    address = ray.util.get_node_ip_address()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.family == family and one.address.partition("%")[0] == address for one in addresses):
            for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
                os.environ.setdefault(variable, name)
            return
