"""A helper process that answers JSON lines, and the few of them that a studio keeps.

A process belongs to what it has loaded, such as a model with a template. It ends when its input ends: with the studio,
also when that is killed. One that has died is started again by the next question.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instil.errors import ServeError
from instil.studio.settings import environment_without_key
from instil.way_in import VARIABLE

MOST_PROCESSES = 2
"""Processes of one studio; each holds a tokenizer."""
ANSWER_SECONDS = 120.0
"""A question that takes longer ends its process: the model may be on a disk that does not answer."""
_ENDING = "the studio is ending. Ask again when it has started."


class WorkerError(ServeError):
    """The answer of a process is an error for people, or it has died."""


class Worker:
    """One process.

    Args:
        module: The module to run.
        folder: Its working folder.
        setup: Its first line.
    """

    def __init__(self, module: str, folder: Path, setup: Mapping[str, Any]) -> None:
        self._module, self._folder, self._setup = module, folder, json.dumps(setup)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: Any = None
        self._is_closed = False

    def ask(self, question: Mapping[str, Any], *, seconds: float = ANSWER_SECONDS) -> Any:
        """Return the answer to a question. Questions of several threads wait for each other.

        Raises:
            WorkerError: If the process refuses it, dies twice, or takes too long.
        """
        line = json.dumps(question).encode() + b"\n"
        with self._lock:
            answer = self._answer(line, seconds) or self._answer(line, seconds)
            if answer is None and self._is_closed:
                raise WorkerError(_ENDING)
            if answer is None:
                raise WorkerError(
                    f"the helper process has died: {self._last_words()}. Reload the page to start it again."
                )
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer["answer"]

    def close(self) -> None:
        """End the process for good, also while a question waits for it: that one ends with an error."""
        self._is_closed = True
        if (process := self._process) is not None:
            self._kill(process)
        with self._lock:  # the question has seen the end of the process
            self._forget()

    @staticmethod
    def _kill(process: subprocess.Popen[bytes]) -> None:
        """End a process and those that it started; it leads a group of its own."""
        if process.poll() is None:  # afterwards another process may have its number
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _forget(self) -> None:
        """End the process if it still runs, and give its pipes back."""
        process, self._process = self._process, None
        if process is None:
            return
        self._kill(process)
        process.wait()
        for pipe in (process.stdin, process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _answer(self, line: bytes, seconds: float) -> dict[str, Any] | None:
        """Return the answer, or None if the process has died or was closed."""
        if self._is_closed:
            return None
        if self._process is None or self._process.poll() is not None:
            self._forget()
            self._start()
            if self._is_closed:  # while it started
                self._forget()
                return None
        process = self._process
        assert process is not None
        assert process.stdin is not None
        try:
            process.stdin.write(line)
            process.stdin.flush()
            raw = self._read_line(process, seconds)
        except OSError:
            raw = b""
        if not raw.endswith(b"\n"):
            self._kill(process)
            process.wait()
            return None
        answer: dict[str, Any] = json.loads(raw)
        return answer

    def _read_line(self, process: subprocess.Popen[bytes], seconds: float) -> bytes:
        assert process.stdout is not None
        parts: list[bytes] = []
        end = time.monotonic() + seconds
        while not parts or not parts[-1].endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self._forget()
                raise WorkerError(f"the helper process did not answer within {seconds:.0f} s. It was ended. Try again.")
            part = os.read(process.stdout.fileno(), 1 << 20)
            if not part:
                return b""
            parts.append(part)
        return b"".join(parts)

    def _start(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module],
            cwd=self._folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            start_new_session=True,  # Ctrl-C of the studio's terminal is not for it
            env=environment(),
        )
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has died; the question finds out
            self._process.stdin.write(self._setup.encode() + b"\n")

    def _last_words(self) -> str:
        if self._errors is None:
            return "it did not start"
        self._errors.seek(0)
        lines = [line for line in self._errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1] if lines else "it said nothing"


class Workers:
    """The processes of a studio, the latest used ones.

    Args:
        folder: Their working folder: the workspace.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[str, str], Worker] = OrderedDict()
        self._once: set[Worker] = set()
        self._is_closed = False

    def ask(self, module: str, setup: Mapping[str, Any], question: Mapping[str, Any]) -> Any:
        """Return the answer of the process of a module with this setup; see `Worker.ask`."""
        key = (module, json.dumps(setup, sort_keys=True))
        closed = []
        with self._lock:
            self._check_open()
            worker = self._open.pop(key, None) or Worker(module, self._folder, setup)
            self._open[key] = worker
            while len(self._open) > MOST_PROCESSES:
                closed.append(self._open.popitem(last=False)[1])
        for old in closed:
            old.close()
        return worker.ask(question)

    def ask_once(self, module: str, question: Mapping[str, Any]) -> Any:
        """Return the answer of a process that ends with it."""
        worker = Worker(module, self._folder, {})
        with self._lock:
            self._check_open()
            self._once.add(worker)
        try:
            return worker.ask(question)
        finally:
            worker.close()
            with self._lock:
                self._once.discard(worker)

    def close(self) -> None:
        """End all of them for good; questions that wait for one end with an error."""
        with self._lock:
            self._is_closed = True
            workers = [*self._open.values(), *self._once]
            self._open.clear()
        for worker in workers:
            worker.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise WorkerError(_ENDING)


def environment() -> dict[str, str]:
    """Return the variables of a process of the studio: those of the studio, without its key.

    Advice in its errors names options, as in a terminal: jobs are commands, and pages show them as such.
    """
    return environment_without_key() | {VARIABLE: "1", "PYTHONUNBUFFERED": "1"}
