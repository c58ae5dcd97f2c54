"""Bounds connections: how many there are, and how long a client may take to send a request or to read an answer.

uvicorn has a timeout only for idle connections. A head, a body or a reader that never ends would hold its
connection for ever.

Why: the limits wrap uvicorn's protocol (h11 or httptools, whichever is installed), because no application sees a
connection before its head has arrived.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any

from instil.generation.http_api.problems import Problem


class BoundedConnection(asyncio.Protocol):
    """Mixin for uvicorn's HTTP protocols.

    Attributes:
        max_connections: Connections at a time; the next one gets status 503 and is closed.
        max_transfer_seconds: Time for one request to arrive, and for a blocked answer to be read on.
    """

    max_connections: int
    max_transfer_seconds: float
    # From uvicorn's protocol.
    transport: Any
    cycle: Any
    loop: asyncio.AbstractEventLoop
    connections: set[Any]

    _arrival: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None
    _watched: Any = None
    _refused = False

    def connection_made(self, transport: Any) -> None:
        """Start the time of the first request, or refuse the connection."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._refuse(Problem(503, f"{self.max_connections} connections are open. Try again later."))
        else:
            self._start_arrival()

    def data_received(self, data: bytes) -> None:
        """Pass data on, and watch whether they complete a request."""
        if self._refused:
            return
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self._arrival is None:
            self._start_arrival()
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Watch the next request, which may have arrived behind this one."""
        super().on_response_complete()  # type: ignore[misc]
        self._watch()
        if self.transport.is_closing():
            self._abort_later()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, also one whose client has not read the last answer."""
        super().timeout_keep_alive_handler()  # type: ignore[misc]
        self._abort_later()

    def pause_writing(self) -> None:
        """Start the time of a reader that blocks."""
        super().pause_writing()
        self._reading = self._reading or self.loop.call_later(self.max_transfer_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the time of a reader that reads on."""
        super().resume_writing()
        self._reading = _cancelled(self._reading)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all times."""
        self._arrival, self._reading = _cancelled(self._arrival), _cancelled(self._reading)
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.cycle is not self._watched:  # a new head has arrived: its body has its own time
            self._watched = self.cycle
            self._start_arrival()
        if self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete:
            self._arrival = _cancelled(self._arrival)

    def _start_arrival(self) -> None:
        _cancelled(self._arrival)
        self._arrival = self.loop.call_later(self.max_transfer_seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._arrival = None
        cycle = self.cycle
        # A finished exchange is the one before: the head of the next request is late.
        is_over = cycle is None or (cycle.response_complete and not cycle.more_body)
        if not is_over and cycle.response_started:
            self.transport.abort()  # an answer is half sent, or was sent before the body: nothing can follow
        else:
            self._refuse(Problem(408, f"the request has not arrived within {self.max_transfer_seconds:g} seconds."))

    def _refuse(self, problem: Problem) -> None:
        """Answer without the application, and close."""
        self._refused = True
        body = json.dumps(problem.body()).encode()
        head = (
            f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
        self._abort_later()

    def _abort_later(self) -> None:
        """Abort a closed connection whose client never reads what is left."""
        if self.transport.get_write_buffer_size():
            self.loop.call_later(self.max_transfer_seconds, self.transport.abort)


def bounded_protocol(*, max_connections: int, max_transfer_seconds: float) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol with these bounds."""
    # Why: uvicorn is optional.
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    bounds = {"max_connections": max_connections, "max_transfer_seconds": max_transfer_seconds}
    return type("BoundedHTTPProtocol", (BoundedConnection, AutoHTTPProtocol), bounds)


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Cancel a timer, and return None to put in its place."""
    if timer is not None:
        timer.cancel()
    return None
