"""Checks who may send a request, and ends a request whose time is over."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Collection
from typing import Any

from fastapi.responses import JSONResponse

from instil.generation.http_api.addresses import is_loopback, name_in
from instil.generation.http_api.ending import Ending
from instil.generation.http_api.problems import Problem
from instil.generation.http_api.settings import ServeSettings
from instil.generation.http_api.writing import EVENT_STREAM, event

LAST_WORDS_SECONDS = 1.0
"""How long the last event of a stream, which contains the reason for its end, may wait for its reader."""


class Gate:
    """Checks host and key before anything else, and ends requests whose time is over, even in a blocked write.

    Args:
        app: The application.
        settings: Key and time limit.
        ending: The limits of the requests in progress, which a server that ends shortens.
        open_paths: What may be read without the key.
    """

    def __init__(
        self,
        app: Any,
        *,
        settings: ServeSettings,
        ending: Ending | None = None,
        open_paths: Collection[str] = (),
    ) -> None:
        self._app, self._settings, self._ending = app, settings, ending or Ending()
        self._open_paths = open_paths

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or reject it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = self._rejection(scope)
        started = streams = False

        async def watched(message: Any) -> None:
            nonlocal started, streams
            if message["type"] == "http.response.start":
                streams = any(value.startswith(EVENT_STREAM.encode()) for _, value in message["headers"])
            started, streams = True, streams and (not started or message.get("more_body", False))
            await send(message)

        if problem is None:
            try:
                async with self._ending.limited(self._settings.max_seconds):
                    await self._app(scope, receive, watched)
                return
            except TimeoutError:
                problem = self._ending.problem(self._settings.max_seconds)
                if started:
                    await _end_stream(send, problem, still_open=streams)
                    return
        await JSONResponse(problem.body(), status_code=problem.status)(scope, receive, send)

    def _rejection(self, scope: Any) -> Problem | None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        key = self._settings.api_key
        if key is not None:
            if scope["method"] in ("GET", "HEAD") and scope["path"] in self._open_paths:
                return None
            sent_key = headers.get("authorization", "").removeprefix("Bearer ").strip()
            if secrets.compare_digest(sent_key.encode(), key.encode()):
                return None
            return Problem(401, "wrong or missing API key. Send Authorization: Bearer KEY.", code="invalid_api_key")
        host = headers.get("host", "")
        if not is_loopback(name_in(host)):  # a web page that reaches this machine by another name
            return Problem(403, f"host {host!r} is not this machine's loopback. Set an API key to serve others.")
        return None


async def _end_stream(send: Any, problem: Problem, *, still_open: bool) -> None:
    """Send a stream's last event, with the reason for its end, without waiting for a client that does not read."""
    if still_open:
        last = {"type": "http.response.body", "body": event(problem.body()).encode(), "more_body": False}
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await send(last)
