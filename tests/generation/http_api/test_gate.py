"""Who may send a request, and what happens to one whose time is over."""

from __future__ import annotations

import asyncio
import json

import pytest

pytest.importorskip("fastapi")

from starlette.responses import JSONResponse, StreamingResponse
from starlette.testclient import TestClient

from instil.generation.http_api.gate import Gate
from instil.generation.http_api.settings import ServeSettings
from instil.generation.http_api.writing import EVENT_STREAM


async def application(scope, receive, send):
    """Answer at once, late, or with a stream that stops in its middle."""

    async def pieces():
        yield "data: 1\n\n"
        await asyncio.sleep(60)

    if scope["path"] == "/late":
        await asyncio.sleep(60)
    if scope["path"] == "/stream":
        await StreamingResponse(pieces(), media_type=EVENT_STREAM)(scope, receive, send)
    else:
        await JSONResponse({"ok": True})(scope, receive, send)


def client(**given):
    return TestClient(Gate(application, settings=ServeSettings(**given)), base_url="http://localhost")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("localhost:8000", 200), ("127.0.0.1:1", 200), ("[::1]", 200), ("[::1]:8000", 200), ("127.0.0.9:8000", 200), ("evil.example", 403), ("10.0.0.1", 403),
        ("localhost.evil.example", 403), ("127.0.0.1.evil.example:80", 403), ("", 403), ("evil.example#localhost", 403),
    ],
)  # fmt: skip
def test_without_a_key_only_loopback_is_answered(host, status):
    answer = client().get("/", headers={"host": host})
    assert answer.status_code == status
    if status == 403:
        assert "loopback" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [("Bearer secret", 200), ("Bearer  secret ", 200), ("Bearer wrong", 401), ("Bearer sécret", 401), ("", 401), ("Bearer", 401)],
)  # fmt: skip
def test_a_key_is_compared_and_then_any_host_will_do(sent, status):
    headers = {"host": "example.org"} | ({"authorization": sent.encode()} if sent else {})
    assert client(api_key="secret").get("/", headers=headers).status_code == status


def test_a_late_answer_is_504_and_a_late_stream_ends_with_the_reason():
    late = client(max_seconds=0.05).get("/late")
    assert (late.status_code, "0.05 seconds" in late.json()["error"]["message"]) == (504, True)
    *_, last = client(max_seconds=0.3).get("/stream").text.strip().split("\n\n")
    assert "not answered within" in json.loads(last.removeprefix("data: "))["error"]["message"]
