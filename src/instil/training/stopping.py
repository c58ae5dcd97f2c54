"""SIGTERM and Ctrl-C: the first asks the run to finish its step and save, the second stops at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


class StopRequest:
    """Whether somebody asked the run to stop.

    Attributes:
        signal: The signal that asked, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextlib.contextmanager
def stop_on_signals(say: Callable[[str], None]) -> Iterator[StopRequest]:
    """Turn SIGTERM and SIGINT into a request while the context is open.

    The same signal a second time stops at once (KeyboardInterrupt); launchers send SIGTERM after a Ctrl-C of their own, so
    another signal is no second request. Outside the main thread, where Python takes no signals, this does nothing.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if request.signal == number:
            raise KeyboardInterrupt
        if request:
            return
        request.signal = number
        say(f"{signal.Signals(number).name}: finishing this step and saving; once more to stop at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
