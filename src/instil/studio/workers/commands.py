"""The warm process `instil.cli.worker`, as routes use it: an `instil` command with its output, at once and cancellable."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from instil.files import remove_folder
from instil.studio.settings import environment_without_key
from instil.studio.workspace import OWN

MODULE = ("-m", "instil.cli.worker")
"""The words that start the process."""
END_SECONDS = 3.0
"""How long the process may take to end its commands, which remove what they were writing. It may be importing, and then
takes no notice."""


@dataclass(frozen=True, slots=True)
class Output:
    """How a command ended.

    Attributes:
        status: Its exit status; negative for a signal. None if the process that ran it was lost.
        text: All that it printed.
    """

    status: int | None
    text: str


@dataclass(slots=True)
class _Waiting:
    ended: threading.Event = field(default_factory=threading.Event)
    status: int | None = None


class Commands:
    """The commands of one workspace. The process starts with the first one, and again after it has ended itself.

    Args:
        root: The workspace: the working folder of every command.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[str] | None = None
        self._listener: threading.Thread | None = None
        self._waiting: dict[int, _Waiting] = {}
        self._is_closed = False

    def start(self, kind: Literal["run", "read"], words: Sequence[str]) -> int:
        """Start a command, and return its number for `result` and `cancel`."""
        with self._lock:
            number = next(self._numbers)
            waiting = self._waiting[number] = _Waiting()
            if self._is_closed:
                waiting.ended.set()  # as one whose process was lost
                return number
            request = {"id": number, kind: list(words), "out": str(self._out(number))}
            try:
                self._send(request)
            except OSError:  # it ended itself a moment ago
                self._process = None
                self._send(request)
        return number

    def result(self, number: int) -> Output:
        """Wait for a command, and return how it ended."""
        waiting = self._waiting[number]
        waiting.ended.wait()
        with self._lock:
            del self._waiting[number]
        out = self._out(number)
        try:
            return Output(waiting.status, out.read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            return Output(waiting.status, "")
        finally:
            out.unlink(missing_ok=True)

    def cancel(self, number: int) -> None:
        """End a command; its `result` then has a status below 0 or of Ctrl-C."""
        with self._lock, contextlib.suppress(OSError):
            if number in self._waiting and self._process is not None:
                self._send({"cancel": number})

    def close(self) -> None:
        """End the process for good, and with it every command: whoever waits for one gets that it was lost."""
        with self._lock:
            self._is_closed = True
            process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.terminate()  # it may be importing, and then reads nothing
            try:
                process.wait(timeout=END_SECONDS)
            except subprocess.TimeoutExpired:
                commands = _children_of(process.pid)
                process.kill()
                process.wait()
                for command in commands:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        command.kill()
            if self._listener is not None:
                self._listener.join()
        if self._folder.exists():
            remove_folder(self._folder)

    @property
    def _folder(self) -> Path:
        return self.root / OWN / f"commands-{os.getpid()}"

    def _out(self, number: int) -> Path:
        return self._folder / f"{number}.txt"

    def _send(self, request: dict[str, object]) -> None:
        if self._process is None or self._process.poll() is not None:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._process = subprocess.Popen(
                [sys.executable, *MODULE],
                cwd=self.root,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env=environment_without_key() | {"PYTHONUNBUFFERED": "1", "COLUMNS": "400"},
            )
            self._listener = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
            self._listener.start()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        """Hand the answers of a process to those who wait; at its end, all of them get that it was lost."""
        assert process.stdout is not None
        with process.stdout as answers:
            for line in answers:
                answer = json.loads(line)
                waiting = self._waiting.get(answer["id"])
                if waiting is not None:
                    waiting.status = answer["status"]
                    waiting.ended.set()
        process.wait()
        with self._lock:
            if self._process is process:
                self._process = None
            if self._process is None:
                for waiting in self._waiting.values():
                    waiting.ended.set()


def _children_of(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
