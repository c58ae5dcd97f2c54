"""Server-sent events: what changed, as it changes.

Why not polling by the page: a stream costs nothing while nothing happens. A browser opens six connections to one server,
so ``stream.js`` closes the stream of a tab that nobody sees.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from instil.generation.http_api.ending import Ending

EVERY_SECONDS = 0.4
"""How often a stream looks whether something has changed."""
ALIVE_SECONDS = 15.0
"""How often a stream without news sends a comment, so that a browser that has gone is noticed."""


def stream(request: Request, changes: AsyncIterator[str]) -> StreamingResponse:
    """Return an answer that sends events until the reader or the server leaves."""
    return StreamingResponse(
        _until_end(request, changes), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


def event(name: str, data: Any, *, identity: str = "") -> str:
    r"""Return an event; its data are JSON.

    Args:
        name: What a page waits for: ``data-on`` or ``data-append``.
        data: JSON values.
        identity: What the browser sends as Last-Event-ID when it comes again.

    Example:
        >>> event("log", "a\nb", identity="4")
        'id: 4\nevent: log\ndata: "a\\nb"\n\n'
    """
    head = f"id: {identity}\n" if identity else ""
    return f"{head}event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


async def watched(signatures: Mapping[str, Callable[[], object]]) -> AsyncIterator[str]:
    """Yield an event of the name whenever a signature changes, and an empty text when nothing has changed.

    Args:
        signatures: For each event's name, a cheap function that returns another value when something has changed. It
            is called in a thread.
    """
    before = {name: await asyncio.to_thread(signature) for name, signature in signatures.items()}
    while True:
        changed = ""
        for name, signature in signatures.items():
            now = await asyncio.to_thread(signature)
            if now != before[name]:
                before[name] = now
                changed += event(name, None)
        yield changed
        await asyncio.sleep(EVERY_SECONDS)


async def _until_end(request: Request, changes: AsyncIterator[str]) -> AsyncIterator[str]:
    ending: Ending = request.app.state.ending
    loop = asyncio.get_running_loop()
    yield ": open\n\n"
    last = loop.time()
    async for text in changes:
        if ending.begun or await request.is_disconnected():
            return
        if text:
            last = loop.time()
            yield text
        elif loop.time() - last > ALIVE_SECONDS:
            last = loop.time()
            yield ": alive\n\n"
