"""What ends a run from outside: SIGTERM, Ctrl-C, and a launcher that is gone.

Before the first step there is nothing to save, so a signal stops at once. From then on the first asks the run to finish its step and
save, and the second stops at once. Questionable on purpose: what a second one is depends on who started the process, for launchers
hand on what they get, and supervisors send it to each process besides.
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
"""Variable that tells a process the number of its launcher; the launcher of ``--parallel.processes`` sets it."""
TORCHRUN = "TORCHELASTIC_RUN_ID"
"""Variable that torchrun sets."""
LOOKS_EVERY = 0.2
"""Seconds between two looks whether the launcher is still there."""
SAME_REQUEST_SECONDS = 1.0
"""How long after the first the same signal is the same request, where torchrun hands on what came to this process as well."""
STOPPED_BY = "stopped by "
"""How the line begins that a process says which was stopped at once; never the reason of a run's end."""


class Stopped(KeyboardInterrupt):
    """A signal stopped a run at once; what it had saved before is whole.

    Attributes:
        signal: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number


def stopped_by(error: KeyboardInterrupt) -> tuple[str, int]:
    """Give the line that says what stopped a process at once, and its exit code.

    Example:
        >>> stopped_by(KeyboardInterrupt()), stopped_by(Stopped(signal.SIGTERM))
        (('stopped by Ctrl-C', 130), ('stopped by SIGTERM', 143))
    """
    number = error.signal if isinstance(error, Stopped) else signal.SIGINT
    return STOPPED_BY + ("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name), 128 + number


class StopRequest:
    """Whether somebody asked the run to stop.

    Attributes:
        signal: The signal that asked, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._since = 0.0
        self._say: Callable[[str], None] | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def save_first(self, say: Callable[[str], None]) -> None:
        """From now on there are steps: the first signal asks to finish one and save, and `say` prints that."""
        self._say = say

    def take(self, number: int, frame: FrameType | None) -> None:
        """Take a signal.

        Raises:
            Stopped: If it stops at once.
        """
        if self._say is None:
            raise Stopped(number)
        if self.signal is not None:
            if is_second(number, self.signal, seconds=time.monotonic() - self._since):
                raise Stopped(number)
            return
        self.signal, self._since = number, time.monotonic()
        self._say(f"{signal.Signals(number).name}: finishing this step and saving; once more to stop at once")


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Take SIGTERM and SIGINT while the context is open: as `Stopped`, and after `save_first` as a request, the first of them.

    Outside the main thread, where Python takes no signals, this does nothing.
    """
    request = StopRequest()
    with handled(request.take):
        yield request


@contextlib.contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have SIGINT and SIGTERM handled while the context is open, where this is the main thread."""
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
    """Say whether a signal that comes so long after the first one asks to stop at once.

    Where `launching` started this process, it is the launcher that takes the second one, and kills. torchrun's own answer to a second
    one is a SIGTERM. Elsewhere another signal is none: there are programs that send SIGTERM after the Ctrl-C of a person.
    """
    if LAUNCHER in os.environ:
        return False
    if TORCHRUN in os.environ:
        return number != first or seconds > SAME_REQUEST_SECONDS
    return number == first


def end_with_launcher() -> None:
    """End this process when its launcher is killed, as one process would end that is killed; it would else go on, and hold the run folder's lock."""
    launcher = os.environ.get(LAUNCHER)
    if launcher is None and TORCHRUN not in os.environ:
        return
    parent = os.getppid() if launcher is None else int(launcher)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOKS_EVERY)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
