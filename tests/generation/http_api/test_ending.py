"""What an ending server does with the requests in progress."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("fastapi")

from instil.generation.http_api import ending
from instil.generation.http_api.ending import Ending
from instil.generation.http_api.gate import Gate
from instil.generation.http_api.settings import ServeSettings


async def slow(scope, receive, send):
    """Begin a stream, and never end it."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
    await asyncio.sleep(60)


def test_a_request_in_progress_is_told_when_its_last_seconds_are_over(monkeypatch):
    monkeypatch.setattr(ending, "GRACE_SECONDS", 0.1)
    limits, sent = Ending(), []
    gate = Gate(slow, settings=ServeSettings(max_seconds=60), ending=limits)
    scope = {"type": "http", "method": "POST", "path": "/x", "headers": [(b"host", b"localhost")]}

    async def receive():
        await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    async def run():
        request = asyncio.create_task(gate(scope, receive, send))
        await asyncio.sleep(0.05)
        assert limits.num_open == 1
        limits.begin()
        await asyncio.wait_for(request, 5)

    asyncio.run(run())
    assert limits.num_open == 0
    assert b"the server is ending" in sent[-1]["body"]
    assert sent[-1]["more_body"] is False


def test_a_limit_is_only_shortened():
    async def run():
        limits = Ending()
        async with limits.limited(0.05):
            limits.begin()
            with pytest.raises(TimeoutError):
                async with limits.limited(0.01):
                    await asyncio.sleep(5)
            await asyncio.sleep(5)

    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(run(), 2))


def test_each_reason_has_its_own_status():
    async def run():
        limits = Ending()
        assert limits.problem(3).status == 504
        limits.begin()
        assert limits.problem(3).status == 503

    asyncio.run(run())


def test_who_waits_goes_on_when_the_server_ends():
    async def run():
        limits = Ending()
        await limits.wait(0.01)
        assert not limits.begun
        waiting = asyncio.create_task(limits.wait(3600))
        await asyncio.sleep(0)
        limits.begin()
        await asyncio.wait_for(waiting, 60)
        assert limits.begun

    asyncio.run(run())
