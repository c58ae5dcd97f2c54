"""What ends a run from outside: SIGTERM, Ctrl-C, and the death of its launcher.

Before the first step there is nothing to save, so a signal stops at once. Afterwards the first signal asks the run to
finish its step and save, and the second one stops at once. This module must not import torch: commands take signals
while torch is being imported.

Why: what counts as a second signal depends on the launcher. torchrun forwards signals, and Slurm also sends them to
every process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

LAUNCHER = "INSTIL_LAUNCHER"
"""Variable with the process id of the launcher; the launcher of ``--parallel.processes`` sets it."""
TORCHRUN = "TORCHELASTIC_RUN_ID"
"""Variable that torchrun sets."""
POLL_SECONDS = 0.2
"""Seconds between two checks that the launcher is alive."""
SAME_REQUEST_SECONDS = 1.0
"""Under torchrun: how long after the first signal the same one is the same request, which torchrun has forwarded."""
STOPPED_BY = "stopped by "
"""How the line of a process begins that was stopped at once. It is never the cause of a run's end."""


class Stopped(KeyboardInterrupt):
    """A signal stopped a run at once. What it had saved before is intact.

    Attributes:
        signal: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number


def stopped_by(error: KeyboardInterrupt) -> tuple[str, int]:
    """Return the line that reports what stopped a process at once, and its exit code.

    Example:
        >>> stopped_by(KeyboardInterrupt()), stopped_by(Stopped(signal.SIGTERM))
        (('stopped by Ctrl-C', 130), ('stopped by SIGTERM', 143))
    """
    number = error.signal if isinstance(error, Stopped) else signal.SIGINT
    return STOPPED_BY + ("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name), 128 + number


class StopRequest:
    """Whether the run was asked to stop; true after the first signal, or when nobody follows the run any more.

    Attributes:
        signal: The first signal, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._is_asked = False
        self._since = 0.0
        self._say: Callable[[str], None] | None = None

    def __bool__(self) -> bool:
        return self._is_asked or self.signal is not None

    def ask(self) -> None:
        """Ask the run to stop, as the first signal does."""
        self._is_asked = True

    def save_first(self, say: Callable[[str], None]) -> None:
        """Treat the first signal as a request to finish the step and save, from now on.

        Args:
            say: Prints a line for the user when the request comes.
        """
        self._say = say

    def take(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal; the signature is that of `signal.signal`.

        Raises:
            Stopped: If it stops the run at once.
        """
        if self._say is None:
            raise Stopped(number)
        if self.signal is not None:
            if is_second(number, self.signal, seconds=time.monotonic() - self._since):
                raise Stopped(number)
            return
        self.signal, self._since = number, time.monotonic()
        self._say(f"{signal.Signals(number).name}: finishing this step and saving; send it again to stop at once")


class FirstSignal:
    """Passes the first SIGINT or SIGTERM of a launcher on, as a request to stop. A second one ends the wait.

    Attributes:
        first: The first signal, or None.
    """

    def __init__(self) -> None:
        self.first: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal; the signature is that of `signal.signal`.

        Raises:
            Stopped: If it is a second one.
        """
        if self.first is None:
            self.first = number
            self.pass_on(number)
        elif is_second(number, self.first):
            raise Stopped(number)

    def pass_on(self, number: int) -> None:
        """Ask the processes of the run to stop."""
        raise NotImplementedError


def is_end_by(number: int | None, code: int) -> bool:
    """Return whether an exit code is that of a process that a signal stopped; False for no signal.

    Example:
        >>> is_end_by(15, 143), is_end_by(15, -15), is_end_by(15, 1), is_end_by(None, 1)
        (True, True, False, False)
    """
    return number is not None and code in (-number, 128 + number)


def how_ended(code: int) -> str:
    """Return how a process ended, in words, by its exit code; a negative one is that of a signal.

    Example:
        >>> how_ended(-9), how_ended(3)
        ('was killed by SIGKILL', 'ended with exit code 3')
    """
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Handle SIGTERM and SIGINT while the context is open.

    They raise `Stopped`. After `StopRequest.save_first`, the first one only sets the request. Outside the main thread,
    where Python handles no signals, this does nothing.
    """
    request = StopRequest()
    with handled(request.take):
        yield request


@contextlib.contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Install a handler of SIGINT and SIGTERM while the context is open, if this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def is_second(number: int, first: int, *, seconds: float = 0.0) -> bool:
    """Return True if a signal after the first one asks to stop at once.

    Args:
        number: The signal.
        first: The first signal.
        seconds: Time since the first one.
    """
    if LAUNCHER in os.environ:  # our launcher receives the second one itself, and kills
        return False
    if TORCHRUN in os.environ:  # torchrun forwards the first one, and sends SIGTERM for a second one
        return number != first or seconds > SAME_REQUEST_SECONDS
    # Some programs send SIGTERM after the user's Ctrl-C; that is one request.
    return number == first


def end_with_launcher() -> None:
    """Exit when the launcher dies; otherwise this worker would keep training and hold the run folder's lock."""
    launcher = os.environ.get(LAUNCHER)
    if launcher is None and TORCHRUN not in os.environ:
        return
    parent = os.getppid() if launcher is None else int(launcher)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
