"""Loads in a thread while a person types the first line of a chat.

Why a thread: importing torch and reading the weights takes seconds, in which a person can type. The line is read by
readline, which does not wait for Python. A failure is reported at once, also in the middle of a line.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Generic, NoReturn, TypeVar

from instil.screen import work

Loaded = TypeVar("Loaded")


class LoadingAside(Generic[Loaded]):
    """The result of a function that runs in a thread of its own.

    Args:
        load: What is run. It must not print and not change how signals are handled.
    """

    def __init__(self, load: Callable[[], Loaded]) -> None:
        self._load = load
        self._loaded: list[Loaded] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="loading", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._loaded.append(self._load())
        except BaseException as error:  # it belongs to the thread that waits
            self._error = error
            # Wakes the main thread, which may wait for the keyboard. Without pthread_kill it learns of it after Enter.
            if hasattr(signal, "pthread_kill"):
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    @property
    def running(self) -> bool:
        """Whether nothing has come of it yet."""
        return self._thread.is_alive()

    @property
    def failed(self) -> bool:
        """Whether the function raised an error; `result` raises it."""
        return self._error is not None

    def result(self) -> Loaded:
        """Wait for the result, with a bar on a terminal.

        Raises:
            BaseException: What the function raised.
        """
        if self.running and not self.failed:
            with work("loading the model", shown=True):
                self._thread.join()
        if self._error is not None:
            raise self._error
        self._thread.join()
        return self._loaded[0]


def leave_at_once(status: int) -> NoReturn:
    """End the process while a thread still loads.

    Why: Python would tear down modules that the thread is importing, which can crash.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
