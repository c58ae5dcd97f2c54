"""What happens to the requests in progress when the server ends: they have some seconds, then they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from instil.generation.http_api.problems import Problem

GRACE_SECONDS = 10.0
"""How long requests in progress may go on after the first Ctrl-C or SIGTERM."""


class Ending:
    """The time limits of the requests in progress."""

    def __init__(self) -> None:
        self._has_begun = asyncio.Event()
        self._limits: set[asyncio.Timeout] = set()

    @property
    def begun(self) -> bool:
        """Whether the server is ending."""
        return self._has_begun.is_set()

    @property
    def num_open(self) -> int:
        """Number of requests in progress."""
        return len(self._limits)

    @asynccontextmanager
    async def limited(self, seconds: float) -> AsyncIterator[None]:
        """Limit the time of a request.

        Raises:
            TimeoutError: If its time, or that of an ending server, is over.
        """
        async with asyncio.timeout(min(seconds, GRACE_SECONDS) if self.begun else seconds) as limit:
            self._limits.add(limit)
            try:
                yield
            finally:
                self._limits.discard(limit)

    def begin(self) -> None:
        """Give the requests in progress their last seconds."""
        self._has_begun.set()
        last = asyncio.get_running_loop().time() + GRACE_SECONDS
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(min(limit.when() or last, last))

    async def wait(self, seconds: float) -> None:
        """Wait until the server is ending, but no longer than this."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._has_begun.wait(), seconds)

    def problem(self, seconds: float) -> Problem:
        """Return why a request's time is over; `seconds` is what each has."""
        if self.begun:
            return Problem(503, "the server is ending. The answer is not complete. Ask again when it has started.")
        return Problem(504, f"not answered within {seconds:g} seconds.")
