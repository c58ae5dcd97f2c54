"""uvicorn's server with the end that a person expects: one line, status 0, and nobody left without an answer.

Why: Ctrl-C is how a server is ended, not how it fails. So the status is 0, for SIGTERM too: a supervisor takes another
one for a crash. A second Ctrl-C cuts requests, so its status is 130.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Any

import uvicorn

from instil.generation.http_api.ending import GRACE_SECONDS, Ending
from instil.units import counted

_SAME_SIGNAL_SECONDS = 0.1
"""A signal so soon after the first one is the same one: the terminal sent it, and so did the program above."""


class EndingServer(uvicorn.Server):  # type: ignore[misc]
    """A server that ends its requests, then itself; the second signal ends it at once.

    Attributes:
        app: The application, whatever `config.app` has around it.
    """

    def __init__(self, config: Any, *, app: Any) -> None:
        super().__init__(config)
        self.app = app
        self._ending: Ending = app.state.ending
        self._signalled: float | None = None

    @property
    def is_signalled(self) -> bool:
        """Whether a signal has asked it to end."""
        return self._signalled is not None

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Handle SIGINT and SIGTERM."""
        now = time.monotonic()
        if self._signalled is None:
            self._signalled, self.should_exit = now, True
            if self._ending.num_open:
                requests = counted(self._ending.num_open, "request")
                _say(f"ending: {requests} in progress, up to {GRACE_SECONDS:g} seconds; Ctrl-C again ends at once")
        elif now - self._signalled > _SAME_SIGNAL_SECONDS:
            _say("ended at once")
            os._exit(128 + sig)  # threads that generate would hold the process

    async def shutdown(self, sockets: Any = None) -> None:
        """Take no more requests, and wait for those in progress."""
        self._ending.begin()
        await super().shutdown(sockets)


def _say(line: str) -> None:
    # Why not print: a signal may come while a line is being printed, and a text stream cannot be entered twice.
    start = "\n" if sys.stderr.isatty() else ""
    with contextlib.suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), f"{start}{line}\n".encode())
